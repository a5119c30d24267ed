r"""A result in the words of other programs.

STACIE (1.3) has no file format; its documented input is a `Spectrum`, whose arguments
the arrays of the archive are::

    spectrum = stacie.spectrum.Spectrum(**np.load("gk-stacie.npz"))
    stacie.estimate.estimate_acint(spectrum, stacie.model.ExpPolyModel([0, 2]))

The amplitudes are those that the cepstral analysis fits, in W/(m K), so that their limit at
zero frequency is kappa; time in fs, frequency in 1/fs. With l independent periodograms in
the mean, an amplitude follows a gamma distribution of 2 l degrees of freedom, l at zero
frequency and at Nyquist's.

FHI-vibes keeps its results as netCDF; the variables here have its names, and its meaning:
autocorrelations are multiplied by 1/(kB T² V), so that their integral is kappa in W/(m K).
They are unbiased and without taper, as all here is, but in ``mode="vibes"`` kappa is its.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gkflux.errors import FluxError
from gkflux.estimators.first_dip import vibes
from stepson.units import BOLTZMANN, CONDUCTIVITY

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["FORMATS", "export", "stacie_spectrum", "vibes_variables"]

VIBES_TENSORS = {
    "heat_flux_autocorrelation": ("time", "a", "b"),
    "heat_flux_autocorrelation_filtered": ("time", "a", "b"),
    "heat_flux_autocorrelation_cumtrapz": ("time", "a", "b"),
    "heat_flux_autocorrelation_cumtrapz_filtered": ("time", "a", "b"),
    "kappa": ("a", "b"),
    "cutoff_time": ("a", "b"),
}
"""Variables and dimensions, as FHI-vibes calls them."""


def export(result: "GreenKubo", path: str | Path, kind: str) -> Path:
    """Write a result for another program, return the path.

    Args:
        result: of a reduction.
        path: of the file; it is replaced.
        kind: one of `FORMATS`.

    Raises:
        FluxError: the kind is not known.
    """
    if kind not in FORMATS:
        raise FluxError(f"unknown export {kind!r}; known: {', '.join(FORMATS)}")
    where = Path(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[kind](result, where)
    return where


def stacie_spectrum(result: "GreenKubo") -> dict[str, Any]:
    """Return the arguments of STACIE's `Spectrum`."""
    settings, amplitudes = result.settings, np.asarray(result.curves["spectrum"])
    length = int(settings["segment_samples"])
    spacing = float(settings["spacing_fs"]) * int(settings["decimation"])
    dofs = np.full(len(amplitudes), 2.0 * float(settings["l"]))
    dofs[0] /= 2
    if length % 2 == 0:
        dofs[-1] /= 2
    weights = np.full(len(amplitudes), 2.0)  # of both signs of the frequency
    weights[0] = 1.0
    if length % 2 == 0:
        weights[-1] = 1.0
    return {
        "mean": 0.0,
        "variance": float(weights @ amplitudes) / (length * spacing),
        "timestep": spacing,
        "nstep": length,
        "freqs": np.asarray(result.curves["frequency"]) / 1e3,
        "ndofs": dofs,
        "amplitudes": amplitudes,
    }


def vibes_variables(result: "GreenKubo") -> dict[str, Any]:
    """Return the variables of `VIBES_TENSORS`, and `time`, fs."""
    time, integral = result.curves["lag_time"], result.curves["kappa_cumulative"]
    spacing = float(time[1] - time[0])
    window = round(float(result.settings["filter_fs"]) / spacing)
    found = vibes(integral, spacing=spacing, window=window)
    prefactor = CONDUCTIVITY / BOLTZMANN
    return {
        "time": time,
        "heat_flux_autocorrelation": prefactor * result.curves["autocorrelation"],
        "heat_flux_autocorrelation_filtered": found.slopes,
        "heat_flux_autocorrelation_cumtrapz": integral,
        "heat_flux_autocorrelation_cumtrapz_filtered": found.curves,
        "kappa": result.tensor,
        "cutoff_time": found.cut,
    }


def _write_stacie(result: "GreenKubo", path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **stacie_spectrum(result))


def _write_vibes(result: "GreenKubo", path: Path) -> None:
    from scipy.io import netcdf_file

    variables = vibes_variables(result)
    components = len(result.tensor)
    with netcdf_file(path, "w", version=2) as file:
        for name, size in (("time", len(variables["time"])), ("a", components)):
            file.createDimension(name, size)
        file.createDimension("b", components)
        for name, dimensions in {"time": ("time",), **VIBES_TENSORS}.items():
            file.createVariable(name, "d", dimensions)[:] = variables[name]
        for name, value in _about(result).items():
            setattr(file, name, value)


def _about(result: "GreenKubo") -> Mapping[str, float | str]:
    return {
        "gk_window_fs": float(result.settings["filter_fs"]),
        "gk_prefactor": float(result.summary()["prefactor"]["value"]),
        "volume": result.volume,
        "temperature": result.temperature,
        "kappa_unit": "W/(m K)",
        "time_unit": "fs",
        "comment": "gk_prefactor is for an extensive heat flux in eV Angstrom/fs",
    }


FORMATS = {"stacie": _write_stacie, "vibes": _write_vibes}
"""What can be exported, and what writes it."""
