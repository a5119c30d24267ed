r"""Thermal conductivity: the prefactor, and the result with its error, checks and verdict.

.. math::
    \kappa_{ab} = \frac{1}{k_B T^2 V}
        \int_0^\infty \langle J_a(t)\, J_b(0) \rangle\, dt

J is the **extensive** heat flux in eV Å/fs. Codes that store J/V are converted by unit on
the way in: mixing them up is a silent factor V² in kappa.

The module is not called ``kappa``, because importing it would hide the function
`gkflux.kappa`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gkflux import crystal, gauges
from gkflux.analysis import Analysis, analyse
from gkflux.checks import Check, make_checks
from gkflux.errors import FluxError
from gkflux.green_kubo import GreenKubo, prefactor
from gkflux.leaves import Tally
from gkflux.parallel import pool
from gkflux.plan import Settings, plan
from gkflux.reduce import Reduced, accumulate, remove_offsets
from gkflux.runs import Run, array_run
from gkflux.states import States
from gkflux.survey import Survey, check_temperatures, survey_all
from gkflux.symmetry import Finding
from gkflux.system import System
from gkflux.verdict import verdict

__all__ = ["GreenKubo", "kappa", "prefactor", "reduce_runs", "settings_of"]


def kappa(
    flux: ArrayLike | Sequence[ArrayLike],
    *,
    timestep: float,
    volume: float,
    temperature: ArrayLike,
    currents: ArrayLike | None = None,
    structure: System | None = None,
    **options: Any,
) -> GreenKubo:
    r"""Estimate the thermal conductivity of heat fluxes in memory.

    .. math::
        \kappa_{ab} = \frac{1}{k_B T^2 V}
            \int_0^\infty \langle J_a(t)\, J_b(0) \rangle\, dt

    Args:
        flux: extensive heat flux, eV Å/fs, shape (n, 3); or a list of such arrays, or an
            array of shape (R, n, 3): runs that do not touch.
        timestep: between two samples of the flux, fs.
        volume: Å³.
        temperature: mean kinetic temperature, K, or its series, shape (n,).
        currents: mass currents of a fluid of several species, shape (M - 1, n, 3); one
            run only.
        structure: of the crystal, in the cell of the simulation and its orientation: the
            tensor is averaged over its point group.
        options: fields of `gkflux.plan.Settings`.

    Raises:
        FluxError: shapes that do not fit, an unknown option, or no finite data.
    """
    series = _series(flux)
    if currents is not None and len(series) > 1:
        raise FluxError(
            "mass currents are taken for one run only; give the runs one by one"
        )
    runs = [
        array_run(
            one,
            timestep=timestep,
            volume=volume,
            temperature=temperature,
            currents=currents,
            name=f"run {number}" if len(series) > 1 else "array",
        )
        for number, one in enumerate(series)
    ]
    return reduce_runs(runs, settings_of(options), structure=structure)


def _series(flux: ArrayLike | Sequence[ArrayLike]) -> list[ArrayLike]:
    if isinstance(flux, list | tuple) and flux and np.ndim(flux[0]) == 2:
        return list(flux)
    array = np.asarray(flux)
    return list(array) if array.ndim == 3 else [array]


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Build the settings, refusing unknown names and values."""
    known = Settings.__dataclass_fields__
    for name in options:
        if name not in known:
            raise FluxError(f"unknown option {name!r}; known: {', '.join(known)}")
    settings = Settings(**options)
    if settings.mode not in ("default", "sportran", "vibes"):
        raise FluxError(f"unknown mode {settings.mode!r}: default, sportran or vibes")
    if settings.symmetry not in ("auto", "none"):
        raise FluxError(f"unknown symmetry {settings.symmetry!r}: auto or none")
    return settings


def reduce_runs(
    runs: Sequence[Run],
    settings: Settings,
    *,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    states: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    structure: System | None = None,
) -> GreenKubo:
    """Run both passes over `runs` and analyse what they give.

    Args:
        runs: at least one.
        settings: the caller's wishes.
        threads: of this process, None: one a core.
        workers: processes of this machine instead.
        scheduler: address or file of a dask scheduler whose workers see the same files,
            instead.
        states: folder in which to keep what was accumulated, and to look for it.
        progress: called with what was done, how many parts are done, and of how many.
        structure: whose point group is taken, instead of that found in the files.
    """
    kept = None if states is None else States(Path(states))

    def tell(words: str) -> Tally:
        return lambda name, done, total: (
            progress(f"{words} {name}", done, total) if progress else None
        )

    with pool(threads=threads, workers=workers, scheduler=scheduler) as where:
        surveys, spectrum = survey_all(runs, where=where, states=kept, tell=tell)
        check_temperatures(surveys)
        lengths = [stop - start for s in surveys for start, stop in s.pieces]
        as_it_is = settings.mode == "sportran"  # digit for digit
        known = spectrum if as_it_is else spectrum.without_offset()
        chosen = plan(lengths, runs[0].spacing, known, settings)
        data = accumulate(surveys, spectrum, chosen, where=where, states=kept, tell=tell)
        second = [run.other for run in runs if run.other is not None]
        other = None
        if len(second) == len(runs):  # the same in another gauge, by the same plan
            seen = survey_all(second, where=where, states=kept, tell=tell)
            other = accumulate(*seen, chosen, where=where, states=kept, tell=tell)
    if not as_it_is:
        remove_offsets(data)
    group = _point_group(data, settings, structure)
    found = analyse(data, settings, group.symmetry)
    more = () if other is None else (gauges.compare(data, other, found.record.std),)
    return _result(data, found, group, settings, more)


def _point_group(data: Reduced, settings: Settings, structure: System | None) -> Finding:
    """Find the point group, where it is of use."""
    spectrum = data.spectra[data.plan.skip]
    if settings.symmetry == "none":
        return Finding(None, "not taken, as asked for")
    if settings.mode != "default":
        return Finding(None, f"not taken in mode {settings.mode}")
    if data.components < 3 or spectrum.segments < data.channels // data.components:
        return Finding(None, "not taken: too few components or segments")
    if structure is not None:
        return crystal.given(structure)
    return crystal.of_runs([found.run for found in data.surveys])


def _result(
    data: Reduced,
    found: Analysis,
    group: Finding,
    settings: Settings,
    more: tuple[Check, ...],
) -> GreenKubo:
    status, words = verdict(data, found, settings)
    weights = np.array([s.run.samples for s in data.surveys], dtype=float)
    weights /= weights.sum()
    return GreenKubo(
        kappa=found.record.kappa,
        record=found.record,
        reason=found.reason,
        tensor=found.tensor.kappa,
        tensor_std=found.tensor.std,
        symmetry=_symmetry(found, group),
        checks=(*make_checks(data, found, settings), *more),
        verdict=words,
        status=status,
        tau=found.tau,
        methods=found.methods,
        curves=found.curves,
        inputs=tuple(_input(s) for s in data.surveys),
        settings=_settings(data, found, settings),
        temperature=float(weights @ [s.temperature for s in data.surveys]),
        volume=float(weights @ [s.volume for s in data.surveys]),
        blocks=found.blocks,
        replicas=found.replicas,
    )


def _input(found: Survey) -> dict[str, Any]:
    return {
        "name": found.run.name,
        "samples": found.run.samples,
        "spacing_fs": found.run.spacing,
        "pieces": len(found.pieces),
        "not_finite": found.bad,
        "temperature_K": found.temperature,
        "volume_A3": found.volume,
        **found.run.facts,
    }


def _symmetry(found: Analysis, group: Finding) -> dict[str, Any]:
    """What is known of the point group, and what it makes of the tensor."""
    table: dict[str, Any] = {"words": group.words}
    if group.symmetry is None:
        return table
    classes = [
        {
            "components": one.name,
            "kappa": one.estimate.kappa,
            "std": one.estimate.std,
            **one.estimate.details,
        }
        for one in found.classes
    ]
    plain = {"tensor_as_measured": found.plain.kappa, "std_as_measured": found.plain.std}
    return {**table, **group.symmetry.summary(), "classes": classes, **plain}


def _settings(data: Reduced, found: Analysis, settings: Settings) -> dict[str, Any]:
    chosen = data.plan
    return {
        "mode": settings.mode,
        "method": settings.method,
        "symmetry": settings.symmetry,
        "spacing_fs": data.spacing,
        "components": data.components,
        "currents": data.channels // data.components,
        "fstar_THz": found.spectrum.nyquist,
        "decimation": chosen.skip,
        "segment_samples": found.spectrum.length,
        "segments": found.spectrum.segments,
        "dropped_samples": found.spectrum.dropped * chosen.skip,
        "K_AIC": found.cepstrum.cutoff_aic,
        "K": found.cepstrum.cutoff,
        "l": found.cepstrum.dof,
        "lag_fs": chosen.window * data.spacing,
        "filter_fs": chosen.filter_window * data.spacing,
        "cut_fs": found.dip.time,
        "block_samples": chosen.block,
        "blocks": len(data.block_curves),
        "block_curve_stride": data.plan.curve_stride,
    }
