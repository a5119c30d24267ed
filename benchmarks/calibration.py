"""Do the quoted error bars cover the truth as often as they claim?

Processes whose Green-Kubo integral is known exactly are generated, reduced as any
trajectory is, and counted: how often the 68 % and the 95 % interval of the composed rule
contain the exact value, how large the bias is in standard errors, and the same for every
single estimator.

    python benchmarks/calibration.py [--replicas 400] [--json c.json] [--figure c.svg]
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

import gkflux
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


def processes() -> list[Process]:
    """Return the four processes of the calibration."""
    oscillators = [_oscillator(33, 25, 1.0), _oscillator(9, 40, 0.2)]
    return [
        Process("AR(1), tau 5", *_filtered([_slow(5, 2.0)])),
        Process("two damped oscillators", *_filtered(oscillators)),
        Process(
            "slow tau 20 and two oscillators", *_filtered([_slow(20, 2.0), *oscillators])
        ),
        Process(
            "Ornstein-Uhlenbeck, 40 fs at 2 fs", *_filtered([_slow(20, 2.0)]), timestep=2.0
        ),
    ]


def reduce_one(
    process: Process, generator: np.random.Generator, samples: int, runs: int
) -> gkflux.GreenKubo:
    """Draw `runs` independent fluxes of three components and reduce them."""
    flux = [
        np.stack([process.sample(generator, samples) for _ in range(3)], axis=1)
        for _ in range(runs)
    ]
    return gkflux.kappa(
        flux, timestep=process.timestep, volume=VOLUME, temperature=TEMPERATURE
    )


def exact(process: Process) -> float:
    """Return the exact kappa, W/(m K)."""
    return PREFACTOR * process.zero / 2 * process.timestep


def calibrate(
    process: Process, *, replicas: int, samples: int, runs: int, seed: int
) -> dict[str, Any]:
    """Count how often the intervals cover."""
    truth = exact(process)
    rows: dict[str, list[tuple[float, float, bool, bool]]] = {}
    status: dict[str, int] = {}
    for generator in np.random.default_rng(seed).spawn(replicas):
        found = reduce_one(process, generator, samples, runs)
        status[found.status] = status.get(found.status, 0) + 1
        for name, one in {"composed": found.record, **found.methods}.items():
            low, high = one.interval(0.95)
            inner = one.interval(0.68)
            half = one.half_width() / 1.959964
            rows.setdefault(name, []).append(
                (
                    one.kappa / truth,
                    half / truth,
                    low <= truth <= high,
                    inner[0] <= truth <= inner[1],
                )
            )
    return {
        "process": process.name,
        "samples": samples,
        "runs": runs,
        "replicas": replicas,
        "status": status,
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
        "bias_sigma": float(values[known].mean() - 1) / spread,
        "spread_percent": 100 * spread,
        "quoted_percent": 100 * float(np.median(errors[known])),
    }


def figure(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the coverage of every method, process by process."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ["composed", "cepstral", "cepstral_aic", "first_dip"]
    fig, axis = plt.subplots(figsize=(7, 0.55 * len(results) + 1.9), layout="constrained")
    axis.axvspan(90, 98, color="0.9", label="wanted")
    axis.axvline(95, color="0.5", lw=1)
    for offset, name in enumerate(names):
        y = [row + 0.15 * (offset - 1.5) for row in range(len(results))]
        x = [100 * r["methods"].get(name, {}).get("coverage_95", np.nan) for r in results]
        axis.plot(x, y, "o", label=name.replace("_", " "))
    axis.set_yticks(
        range(len(results)),
        [f"{r['process']}\n{r['runs']} x {r['samples']} samples" for r in results],
        fontsize=8,
    )
    axis.invert_yaxis()
    axis.set_xlabel("how often the 95 % interval contains the exact value, %")
    fig.legend(fontsize=8, loc="outside upper center", ncols=5)
    fig.savefig(path)


def main() -> None:
    """Run the calibration from the command line."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--replicas", type=int, default=400)
    usual = ["1x16384", "8x4096", "1x65536"]
    parser.add_argument("--cases", nargs="+", default=usual, help="runs x samples")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figure", type=Path)
    chosen = parser.parse_args()
    results = []
    for case in chosen.cases:
        runs, samples = (int(part) for part in case.split("x"))
        how = {"replicas": chosen.replicas, "samples": samples, "runs": runs}
        results += [calibrate(each, **how, seed=chosen.seed) for each in processes()]
    measuring.report(results, chosen.json)
    if chosen.figure is not None:
        figure(results, chosen.figure)


if __name__ == "__main__":
    main()
