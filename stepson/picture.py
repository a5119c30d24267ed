"""The picture that ``print(traj)`` draws: system, fields, steps, time, size, state."""

from collections import Counter
from collections.abc import Sequence

from stepson.opening import Totals
from stepson.schema import Field

__all__ = ["composition", "picture", "size_text", "table_text", "time_text"]


def size_text(size: float) -> str:
    """Bytes with a binary prefix: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1024
    raise AssertionError


def time_text(time: float) -> str:
    """Femtoseconds in fs, ps or ns."""
    for scale, unit in ((1e6, "ns"), (1e3, "ps")):
        if abs(time) >= scale:
            return f"{time / scale:.4g} {unit}"
    return f"{time:.4g} fs"


def composition(numbers: Sequence[int]) -> str:
    """Atomic numbers as a formula: ``O64 Zr32``."""
    counted = sorted(
        (SYMBOLS[z] if 0 <= z < len(SYMBOLS) else f"Z{z}", n)
        for z, n in Counter(numbers).items()
    )
    return " ".join(f"{symbol}{count}" for symbol, count in counted)


def picture(
    name: str,
    system: str,
    fields: Sequence[Field],
    samples: Sequence[int],
    totals: Totals,
    foot: Sequence[str],
) -> str:
    """Lines of the picture.

    Args:
        name: of the file.
        system: one line on the atoms.
        fields: of the file.
        samples: of each field.
        totals: raw and stored bytes.
        foot: lines on steps, size and state.
    """
    rows: list[tuple[str, ...]] = [
        ("field", "unit", "dtype", "shape", "every", "samples", "codec", "ratio")
    ]
    for i, each in enumerate(fields):
        rows.append(
            _row(each, samples[i], totals.raw[i], totals.stored[i], totals.codecs[i])
        )
    return "\n".join(
        [
            name,
            f"  {system}",
            "",
            *table_text(rows),
            "",
            *(f"  {line}" for line in foot),
        ]
    )


def table_text(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(each: Field, samples: int, raw: int, stored: int, codec: str) -> tuple[str, ...]:
    shape = "×".join("atom" if axis == "atom" else str(axis) for axis in each.shape) or "-"
    every = "irregular" if each.every is None else str(each.every)
    every += f"+{each.offset}" if each.offset else ""
    bound = "" if each.precision is None else f" ±{each.precision:g}"
    ratio = f"{raw / stored:.2f}×" if stored else "-"
    return (
        each.name,
        each.unit or "-",
        each.dtype,
        shape,
        every,
        f"{samples:,}",
        (codec or "-") + bound,
        ratio,
    )


_SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn "
    "Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce "
    "Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn "
    "Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl "
    "Mc Lv Ts Og"
)
SYMBOLS = tuple(_SYMBOLS.split())
"""Chemical symbols by atomic number."""
