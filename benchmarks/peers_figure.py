"""The figure of `peers`: size, speed and access of a few formats, ours in colour.

    python benchmarks/peers_figure.py [--json FILE] [--figure FILE]

Mid-grey text on a transparent ground, so that it reads on light and dark pages.
"""

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {
    "stepson 5e-3 Å": "stepson, 5e-3 Å",
    "stepson 1e-4 Å": "stepson, 1e-4 Å",
    "stepson lossless": "stepson, lossless",
    "XTC (mdtraj)": "XTC, 5e-3 Å",
    "HDF5 blosc2": "HDF5 blosc2",
    "HDF5 gzip+shuffle": "HDF5 gzip",
    "zarr 3": "zarr 3",
    "DCD": "DCD",
    "ASE traj": "ASE .traj",
    "text .son": "FHI-vibes text",
}
INK, GREY, OURS, LIGHT = "#7d7d7d", "#9a9a9a", "#d1495b", "#e8a0a8"
STYLE = {
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "svg.hashsalt": "peers",
}


def draw(table: dict[str, Any], path: Path) -> None:
    """One set of frames: three panels that share the names of the formats."""
    import matplotlib
    from matplotlib.figure import Figure

    kept = {name: table["formats"].get(name, {}) for name in SHOWN}
    rows = {name: row for name, row in kept.items() if "ratio" in row}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.9), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for panel in axes:
            panel.spines[["top", "right", "left"]].set_visible(False)
            panel.tick_params(axis="y", length=0)
        _sizes(axes[0], rows)
        _speeds(axes[1], rows)
        _access(axes[2], rows, table["frames"])
        for panel in axes[1:]:
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0].set_yticks(range(len(rows)), [SHOWN[name] for name in rows])
        axes[0].invert_yaxis()
        for label, name in zip(axes[0].get_yticklabels(), rows, strict=True):
            if _ours(name):
                label.set_color(OURS)
                label.set_fontweight("bold")
        figure.savefig(path, transparent=True, metadata={"Date": None})


def _ours(name: str) -> bool:
    return name.startswith("stepson")


def _colours(rows: dict[str, Any], strong: str, weak: str) -> list[str]:
    return [strong if _ours(name) else weak for name in rows]


def _sizes(panel: Any, rows: dict[str, Any]) -> None:
    values = [row["ratio"] for row in rows.values()]
    panel.barh(range(len(rows)), values, 0.62, color=_colours(rows, OURS, GREY))
    for place, value in enumerate(values):
        panel.text(value, place, f" {value:.{1 + (value < 1)}f}", va="center")
    panel.set_xlim(0, 1.15 * max(values))
    panel.set_title("times smaller than float32", fontsize=8)


def _speeds(panel: Any, rows: dict[str, Any]) -> None:
    """Two bars each; the first row names them."""
    for shift, key, colours, label in (
        (-0.19, "write_MB_cpu_s", _colours(rows, OURS, GREY), " write"),
        (0.19, "scan_MB_cpu_s", _colours(rows, LIGHT, "#c4c4c4"), " read"),
    ):
        values = [row[key] for row in rows.values()]
        places = [place + shift for place in range(len(rows))]
        panel.barh(places, values, 0.36, color=colours)
        for number, (place, value) in enumerate(zip(places, values, strict=True)):
            text = f" {value:.0f}" + (label if number == 0 else "")
            panel.text(value, place, text, va="center", fontsize=6.5)
    panel.set_xscale("log")
    panel.set_xlim(3, 20 * max(row["scan_MB_cpu_s"] for row in rows.values()) ** 0.9)
    panel.set_title("MB/s of float32, one core", fontsize=8)


def _access(panel: Any, rows: dict[str, Any], frames: int) -> None:
    """A ring for opening, a dot for a frame; nothing for what grows with the file."""
    panel.set_xscale("log")
    for place, row in enumerate(rows.values()):
        if row["frames"] < frames:
            note = "reads from the start"
            panel.text(
                0.98,
                place,
                note,
                va="center",
                ha="right",
                transform=panel.get_yaxis_transform(),
            )
    for key, marker, face in (("open_ms", "o", "none"), ("frame_ms", "o", None)):
        for place, (name, row) in enumerate(rows.items()):
            if row["frames"] < frames:
                continue
            colour = OURS if _ours(name) else INK
            panel.plot(row[key], place, marker, ms=5.5, color=colour, mfc=face or colour)
    panel.grid(axis="x", color=INK, alpha=0.25, lw=0.5)
    panel.set_title("ms: ○ to open,  ● a random frame", fontsize=8)


def main() -> None:
    """Draw a result again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/peers.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs/peers.svg")
    options = parser.parse_args()
    result = json.loads(options.json.read_text())
    draw(result["datasets"]["argon, every step"], options.figure)


if __name__ == "__main__":
    main()
