"""Do the quoted error bars cover the truth as often as they claim?

Processes whose Green-Kubo integral is known exactly are generated, reduced as any
trajectory is, and counted: how often the 68 % and the 95 % interval of the composed rule
contain the exact value, how large the bias is in standard errors, the same for every single
estimator, and for the rules of SporTran and FHI-vibes, as the modes of that name apply
them. Coverage is counted for each verdict apart: an interval is said to be sound where the
verdict is "converged" or "more data needed", and must cover there; where it says that the
error bar is too small, that must be so.

    python benchmarks/calibration.py [--replicas 400] [--json c.json] [--figure c.svg]
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

import gkflux
from gkflux.estimators.estimate import Estimate
from stepson.units import BOLTZMANN, CONDUCTIVITY

Float = NDArray[np.float64]

TEMPERATURE, VOLUME = 300.0, 1000.0
PREFACTOR = CONDUCTIVITY / (BOLTZMANN * TEMPERATURE**2 * VOLUME)


@dataclass(frozen=True)
class Process:
    """A stationary process and its exact integral."""

    name: str
    sample: Callable[[np.random.Generator, int], Float]
    """Draw (n,) values of one component."""
    zero: float
    """S(0) for unit spacing: twice the integral of the autocorrelation."""
    timestep: float = 1.0


def _filtered(
    parts: list[tuple[float, list[float]]],
) -> tuple[Callable[[np.random.Generator, int], Float], float]:
    """Sum autoregressive processes (variance of the noise, coefficients)."""

    def sample(generator: np.random.Generator, count: int) -> Float:
        warm = 4000  # over 100 correlation times of every process here
        total = np.zeros(count)
        for variance, coefficients in parts:
            noise = generator.normal(size=count + warm) * np.sqrt(variance)
            total += lfilter([1.0], [1.0, *(-c for c in coefficients)], noise)[warm:]
        return total

    zero = sum(variance / (1 - sum(c)) ** 2 for variance, c in parts)
    return sample, float(zero)


def _slow(tau: float, zero: float) -> tuple[float, list[float]]:
    a = float(np.exp(-1 / tau))
    return zero * (1 - a) ** 2, [a]


def _oscillator(period: float, tau: float, zero: float) -> tuple[float, list[float]]:
    r, omega = float(np.exp(-1 / tau)), 2 * np.pi / period
    coefficients = [2 * r * float(np.cos(omega)), -(r**2)]
    return zero * (1 - sum(coefficients)) ** 2, coefficients


def _tail(longest: float, power: float) -> list[tuple[float, list[float]]]:
    """A sum of exponentials that falls as t^-power up to about `longest`."""
    taus = np.geomspace(1, longest, 1 + round(np.log2(longest)))
    weights = taus**-power
    return [_slow(float(t), float(2 * t * w)) for t, w in zip(taus, weights, strict=True)]


def processes() -> list[Process]:
    """Return the processes of the calibration."""
    oscillators = [_oscillator(33, 25, 1.0), _oscillator(9, 40, 0.2)]
    bands = [_oscillator(14, 60, 0.02), _oscillator(7, 40, 0.05)]
    return [
        Process("exponential, tau 5", *_filtered([_slow(5, 2.0)])),
        Process("two damped oscillators", *_filtered(oscillators)),
        Process(
            "slow tau 20 and two oscillators", *_filtered([_slow(20, 2.0), *oscillators])
        ),
        Process(
            "Ornstein-Uhlenbeck, 40 fs at 2 fs", *_filtered([_slow(20, 2.0)]), timestep=2.0
        ),
        Process("tail t^-1.5 up to 64", *_filtered(_tail(64, 1.5))),
        Process("solid: slow tau 30 under bands", *_filtered([_slow(30, 1.0), *bands])),
    ]


def reduce_one(
    process: Process,
    generator: np.random.Generator,
    samples: int,
    runs: int,
    axes: int,
    modes: Sequence[str],
) -> list[gkflux.GreenKubo]:
    """Draw `runs` independent fluxes of some components; reduce them by some rules."""
    flux = [
        np.stack([process.sample(generator, samples) for _ in range(axes)], axis=1)
        for _ in range(runs)
    ]
    return [
        gkflux.kappa(
            flux,
            timestep=process.timestep,
            volume=VOLUME,
            temperature=TEMPERATURE,
            mode=mode,
        )
        for mode in modes
    ]


def exact(process: Process) -> float:
    """Return the exact kappa, W/(m K)."""
    return PREFACTOR * process.zero / 2 * process.timestep


Row = tuple[float, float, bool, bool]
"""kappa and quoted error in units of the truth; whether 95 % and 68 % cover."""


def _row(one: Estimate, truth: float) -> Row:
    low, high = one.interval(0.95)
    inner = one.interval(0.68)
    half = one.half_width() / 1.959964
    return (
        one.kappa / truth,
        half / truth,
        bool(low <= truth <= high),
        bool(inner[0] <= truth <= inner[1]),
    )


def _one(
    generator: np.random.Generator,
    process: str,
    samples: int,
    runs: int,
    axes: int,
    peers: Sequence[str],
) -> tuple[str, dict[str, Row]]:
    """Reduce one set of runs; return the verdict, and a row for every estimate."""
    known = {each.name: each for each in processes()}[process]
    modes = ("default", *peers)
    ours, *others = reduce_one(known, generator, samples, runs, axes, modes)
    estimates = {"composed": ours.record, **ours.methods}
    estimates |= {
        f"mode {mode}": one.record for mode, one in zip(peers, others, strict=True)
    }
    truth = exact(known)
    return ours.status, {name: _row(one, truth) for name, one in estimates.items()}


def calibrate(
    process: Process,
    *,
    replicas: int,
    samples: int,
    runs: int,
    seed: int,
    axes: int = 3,
    workers: int = 1,
    peers: Sequence[str] = ("sportran", "vibes"),
) -> dict[str, Any]:
    """Count how often the intervals cover."""
    work = partial(
        _one, process=process.name, samples=samples, runs=runs, axes=axes, peers=peers
    )
    generators = np.random.default_rng(seed).spawn(replicas)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            results = list(pool.map(work, generators, chunksize=5))
    else:
        results = [work(generator) for generator in generators]
    rows: dict[str, list[Row]] = {}
    verdicts: dict[str, list[Row]] = {}
    for status, found in results:
        verdicts.setdefault(status, []).append(found["composed"])
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
    return {
        "process": process.name,
        "samples": samples,
        "runs": runs,
        "components": axes,
        "replicas": replicas,
        "verdicts": {
            status: {"times": len(r), **_summary(np.array(r, float))}
            for status, r in verdicts.items()
        },
        "methods": {name: _summary(np.array(r, float)) for name, r in rows.items()},
    }


def _summary(rows: Float) -> dict[str, float]:
    values, errors = rows[:, 0], rows[:, 1]
    known = np.isfinite(errors)
    if not known.any():
        return {"known": 0.0}
    spread = float(values[known].std())
    return {
        "known": float(known.mean()),
        "coverage_95": float(rows[known, 2].mean()),
        "coverage_68": float(rows[known, 3].mean()),
        "bias_percent": 100 * float(values[known].mean() - 1),
        "bias_sigma": float(values[known].mean() - 1) / spread if spread > 0 else 0.0,
        "spread_percent": 100 * spread,
        "quoted_percent": 100 * float(np.median(errors[known])),
    }


def sound(results: list[dict[str, Any]]) -> dict[str, float]:
    """Say how often intervals cover where the verdict calls them sound, and elsewhere."""
    found: dict[str, float] = {}
    for name, statuses in (
        ("converged", ("converged",)),
        ("sound", ("converged", "more data needed")),
        ("too small", ("error too small",)),
    ):
        parts = [r["verdicts"][s] for r in results for s in statuses if s in r["verdicts"]]
        times = sum(part["times"] for part in parts)
        hits = sum(part["times"] * part.get("coverage_95", 0.0) for part in parts)
        found |= {f"{name}: times": times, f"{name}: coverage_95": hits / max(1, times)}
    return found


def figure(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the coverage of three rules, process by process, a dot a case."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {
        "composed": "stepson",
        "mode sportran": "SporTran's rule",
        "mode vibes": "FHI-vibes' rule",
    }
    # where the verdict mostly calls the interval too small, nothing is claimed
    shown = [r for r in results if _claimed(r) > 0.5]
    rows = list(dict.fromkeys(r["process"] for r in shown))
    fig, axis = plt.subplots(figsize=(7, 0.5 * len(rows) + 1.3), layout="constrained")
    axis.axvspan(90, 98, color="0.9", label="wanted")
    axis.axvline(95, color="0.5", lw=1)
    for offset, (name, label) in zip((-0.2, 0.0, 0.2), names.items(), strict=True):
        # the spread of components says nothing where there is one
        some = [r for r in shown if name != "mode vibes" or r["components"] > 1]
        x = [100 * r["methods"].get(name, {}).get("coverage_95", np.nan) for r in some]
        y = [rows.index(r["process"]) + offset for r in some]
        axis.plot(x, y, "o", ms=5, alpha=0.6, mew=0, label=label)
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 102)
    axis.set_xlabel("how often the 95 % interval contains the exact value (%)", fontsize=9)
    fig.legend(fontsize=9, loc="outside upper center", ncols=4)
    fig.savefig(path, metadata={"Date": None})


def _claimed(result: dict[str, Any]) -> float:
    """Share of the replicas whose error bar the verdict calls sound."""
    parts = [result["verdicts"].get(s) for s in ("converged", "more data needed")]
    return float(sum(p["times"] for p in parts if p) / result["replicas"])


def _label(result: dict[str, Any]) -> str:
    axes = "3 components" if result["components"] == 3 else "1 component"
    return f"{result['process']}, {result['runs']} x {result['samples']}, {axes}"


def main() -> None:
    """Run the calibration from the command line."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--replicas", type=int, default=400)
    usual = ["1x4096", "1x16384", "8x4096", "1x65536"]
    parser.add_argument("--cases", nargs="+", default=usual, help="runs x samples")
    parser.add_argument("--components", nargs="+", type=int, default=[3, 1])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figure", type=Path)
    chosen = parser.parse_args()
    results = []
    for case in chosen.cases:
        runs, samples = (int(part) for part in case.split("x"))
        how = {"replicas": chosen.replicas, "samples": samples, "runs": runs}
        for axes in chosen.components:
            for each in processes():
                results.append(
                    calibrate(
                        each, **how, seed=chosen.seed, axes=axes, workers=chosen.workers
                    )
                )
                one = results[-1]
                measuring.tell(
                    f"{_label(one)}: {one['methods']['composed']['coverage_95']:.3f}, "
                    f"sound {_claimed(one):.2f}"
                )
    measuring.tell(str(sound(results)))
    measuring.report({"all": sound(results), "cases": results}, chosen.json)
    if chosen.figure is not None:
        figure(results, chosen.figure)


if __name__ == "__main__":
    main()
