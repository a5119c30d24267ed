"""The report: one HTML file that opens without a network, for eyes, ears and paper.

At the top one line of verdict and the number; then the figures that let a reader judge
it; then tensor, estimators, checks in words, inputs and versions. What the numbers are is
decided elsewhere; here they are only written.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from math import isfinite
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from gkflux.figures import Picture, pictures
from gkflux.rounding import rounded, rounded_interval

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["render", "write_report"]

SHA256_DIGITS = 64
_COLOURS = {
    "converged": "pass",
    "more data needed": "warn",
    "error too small": "warn",
    "no error bar": "fail",
}
_MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail"}
_LABELS = {
    "mode": "mode",
    "spacing_fs": "between samples (fs)",
    "components": "components",
    "currents": "currents",
    "fstar_THz": "f* (THz)",
    "decimation": "samples of a block mean",
    "segment_samples": "samples of a segment",
    "segments": "segments",
    "dropped_samples": "samples in no segment",
    "K_AIC": "K of AIC",
    "K": "K used",
    "l": "independent periodograms",
    "lag_fs": "longest lag (fs)",
    "filter_fs": "filter of the first dip (fs)",
    "cut_fs": "cut (fs)",
    "block_samples": "samples of a block",
    "blocks": "blocks",
}
_INPUT_LABELS = {
    "name": "file",
    "samples": "samples",
    "spacing_fs": "spacing (fs)",
    "temperature_K": "T (K)",
    "volume_A3": "V (Å³)",
    "atoms": "atoms",
    "ensemble": "ensemble",
    "gauge": "gauge",
    "uuid": "uuid",
    "digest": "digest of the last commit",
    "potential_sha256": "sha256 of the potential",
}


def write_report(result: "GreenKubo", path: Path) -> Path:
    """Write the report to `path` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(result), encoding="utf-8")
    return path


def render(result: "GreenKubo") -> str:
    """Return the report as HTML."""
    template = files("gkflux").joinpath("report_template.html").read_text(encoding="utf-8")
    headline, rest = _verdict(result.verdict)
    summary = result.summary()
    return Template(template).substitute(
        number=escape(rounded(result.kappa, result.kappa_std)),
        colour=_COLOURS[result.status],
        headline=escape(headline),
        verdict=escape(rest),
        facts=escape(_facts(result)),
        figures="\n".join(_figure(picture) for picture in pictures(result)),
        tensor=_tensor(result),
        methods=_methods(result),
        reason=escape(result.reason),
        checks="".join(_check(c.name, c.status, c.message) for c in result.checks),
        inputs=_inputs(result.inputs),
        settings=_pairs(
            (label, result.settings.get(key)) for key, label in _LABELS.items()
        ),
        prefactor=_prefactor(summary["prefactor"], result),
        versions=escape(", ".join(f"{k} {v}" for k, v in summary["versions"].items())),
    )


def _verdict(verdict: str) -> tuple[str, str]:
    """Split the one line at its first colon or comma, whichever comes first."""
    at = min(
        (i for i in (verdict.find(":"), verdict.find(",")) if i > 0), default=len(verdict)
    )
    return verdict[:at], verdict[at:]


def _facts(result: "GreenKubo") -> str:
    low, high = result.interval(0.95)
    parts = [] if not isfinite(low) else [f"95 % interval {rounded_interval(low, high)}"]
    parts += [
        f"T = {result.temperature:.1f} K",
        f"V = {result.volume:.1f} Å³",
        f"{len(result.inputs)} run{'s' if len(result.inputs) > 1 else ''}",
    ]
    return " · ".join(parts)


def _figure(picture: Picture) -> str:
    return (
        f"<figure><h3>{escape(picture.title)}</h3>{picture.svg}"
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _tensor(result: "GreenKubo") -> str:
    names = "xyz"[: len(result.tensor)]
    rows = [
        [name, *(rounded(v, e) for v, e in zip(values, errors, strict=True))]
        for name, values, errors in zip(
            names, result.tensor, result.tensor_std, strict=True
        )
    ]
    return _table(["", *names], rows) + _symmetry(result.symmetry)


def _symmetry(symmetry: Mapping[str, Any]) -> str:
    """Say which point group the tensor was averaged over, and what it leaves."""
    words = f"<p>Symmetry: {escape(str(symmetry.get('words', 'not known')))}.</p>"
    if "classes" not in symmetry:
        return words
    rows = [
        [
            one["components"],
            rounded(one["kappa"], one["std"]),
            _cell(one["K"]),
            _cell(one["l"]),
        ]
        for one in symmetry["classes"]
    ]
    return words + _table(["equal by symmetry", "κ ± standard error", "K", "l"], rows)


def _methods(result: "GreenKubo") -> str:
    rows = []
    for name, one in result.methods.items():
        span = rounded_interval(*one.interval(0.95))
        rows.append([name.replace("_", " "), rounded(one.kappa, one.std), span])
    return _table(["method", "κ ± standard error", "95 % interval"], rows)


def _check(name: str, status: str, message: str) -> str:
    return (
        f'<li class="{status}"><span class="mark">{_MARKS[status]}</span>'
        f"<span><b>{escape(name)}</b>: {escape(message)}</span></li>"
    )


def _inputs(inputs: Sequence[Mapping[str, Any]]) -> str:
    keys = [k for k in _INPUT_LABELS if any(entry.get(k) is not None for entry in inputs)]
    rows = [[_cell(entry.get(key)) for key in keys] for entry in inputs]
    return _table([_INPUT_LABELS[key] for key in keys], rows)


def _pairs(pairs: Iterable[tuple[str, Any]]) -> str:
    return _table(
        [], [[label, _cell(value)] for label, value in pairs if value is not None]
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return f"{text[:16]}…" if len(text) == SHA256_DIGITS else text


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _prefactor(prefactor: Mapping[str, Any], result: "GreenKubo") -> str:
    return (
        "<p>κ = 1/(k<sub>B</sub>&#8239;T²&#8239;V) ∫⟨J(t)·J(0)⟩/3 dt, with J "
        "extensive in eV Å/fs and t in fs.</p>"
        f"<p><code>{prefactor['value']:.10g}</code> W/(m K) per eV² Å²/fs, from "
        f"T = {result.temperature:.4f} K, V = {result.volume:.4f} Å³, "
        f"k<sub>B</sub> = {prefactor['kB_eV_per_K']:.10g} eV/K and "
        f"1 eV/(Å fs K) = {prefactor['eV_per_A_fs_K_in_W_per_m_K']:.10g} W/(m K).</p>"
    )
