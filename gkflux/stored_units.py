"""Units as files spell them, and the factor that turns a field into ours.

A unit is a product of known symbols with integer powers: ``eV Å/fs``, ``eV·Å·fs^-1``,
``kcal/mol Å/ps``, ``W/m²``, ``eV/(Å² fs)``. A ``/`` divides by the next symbol or bracket
only. What is not known, or of another dimension than the field, is refused: a number in
another unit would be a wrong conductivity, silently.
"""

import re
from collections.abc import Mapping

from gkflux.errors import FluxError
from stepson import Field
from stepson.units import ELEMENTARY_CHARGE

__all__ = ["DIMENSIONS", "FLUX_DENSITY", "Dimension", "factor", "parse"]

Dimension = tuple[int, int, int, int]
"""Powers of energy, length, time, temperature."""
FLUX_DENSITY: Dimension = (1, -2, -1, 0)
"""Of J/V, as some codes store it."""
DIMENSIONS: Mapping[str, tuple[str, Dimension]] = {
    "heat_flux": ("eV Å/fs", (1, 1, -1, 0)),
    "heat_flux_plain": ("eV Å/fs", (1, 1, -1, 0)),
    "temperature": ("K", (0, 0, 0, 1)),
    "energy": ("eV", (1, 0, 0, 0)),
    "energy_kinetic": ("eV", (1, 0, 0, 0)),
    "volume": ("Å³", (0, 3, 0, 0)),
}
"""Our unit and the dimension of the fields that a reduction reads."""

JOULE = 1 / ELEMENTARY_CHARGE
AVOGADRO = 6.02214076e23  # 1/mol, exact
BOHR = 0.529177210903  # Å, CODATA 2018
HARTREE = 27.211386245988  # eV, CODATA 2018
ENERGY: Dimension = (1, 0, 0, 0)
LENGTH: Dimension = (0, 1, 0, 0)
TIME: Dimension = (0, 0, 1, 0)
SYMBOLS: Mapping[str, tuple[float, Dimension]] = {
    "eV": (1.0, ENERGY),
    "meV": (1e-3, ENERGY),
    "J": (JOULE, ENERGY),
    "kJ": (1e3 * JOULE, ENERGY),
    "kcal": (4184 * JOULE, ENERGY),
    "Ha": (HARTREE, ENERGY),
    "Ry": (HARTREE / 2, ENERGY),
    "W": (JOULE * 1e-15, (1, 0, -1, 0)),
    "mol": (AVOGADRO, (0, 0, 0, 0)),
    **dict.fromkeys(("Å", "A", "Angstrom", "angstrom"), (1.0, LENGTH)),
    "nm": (10.0, LENGTH),
    "m": (1e10, LENGTH),
    "bohr": (BOHR, LENGTH),
    "fs": (1.0, TIME),
    "ps": (1e3, TIME),
    "ns": (1e6, TIME),
    "s": (1e15, TIME),
    "K": (1.0, (0, 0, 0, 1)),
}
TOKEN = re.compile(r"\s*(?:([A-Za-zÅ]+)|(\*\*|\^)?([-+]?\d+)|([/*·()]))")
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def factor(field: Field, path: str, volume: float | None = None) -> float:
    """Return the number that turns stored values of a field into our unit.

    Args:
        field: one of `DIMENSIONS`.
        path: of the file, for messages.
        volume: Å³, by which a heat flux that is stored as J/V is multiplied; None where
            it varies or is not known.

    Raises:
        FluxError: the unit is not known, or not one of this quantity.
    """
    ours, wanted = DIMENSIONS[field.name]
    if field.unit == ours:
        return 1.0
    found = parse(field.unit)
    if found is not None and found[1] == wanted:
        return found[0]
    if (
        found is not None
        and field.name.startswith("heat_flux")
        and found[1] == FLUX_DENSITY
    ):
        if volume is not None:
            return found[0] * volume
        raise FluxError(
            f"{path}: {field.name} is stored per volume, in {field.unit}, and the volume "
            "varies or is not known; store it times the volume, in eV Å/fs"
        )
    what = f"in {field.unit!r}" if field.unit else "without a unit"
    raise FluxError(
        f"{path}: {field.name} is stored {what}, which is no known unit of it; write it in "
        f"{ours!r}"
    )


def parse(text: str) -> tuple[float, Dimension] | None:
    """Read a unit: its size in eV, Å, fs, K and its dimension; None if it is not known."""
    tokens = _tokens(text.replace("\u212b", "Å"))
    if not tokens:
        return None
    found = _product(tokens)
    return None if tokens else found


def _tokens(text: str) -> list[str]:
    """Split into symbols, powers such as ``2``, and signs; empty where it cannot be."""
    spelled = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "^" + m[0].translate(RAISED), text)
    tokens, place = [], 0
    spelled = spelled.rstrip()
    while place < len(spelled):
        match = TOKEN.match(spelled, place)
        if match is None:
            return []
        tokens.append(match[1] or match[3] or match[4])
        place = match.end()
    return tokens


def _product(tokens: list[str]) -> tuple[float, Dimension] | None:
    """Consume factors up to a closing bracket or the end."""
    size, dimension, sign, empty = 1.0, (0, 0, 0, 0), 1, True
    while tokens and tokens[0] != ")":
        if tokens[0] in "/*·":
            sign = -1 if tokens.pop(0) == "/" else 1
            continue
        one = _factor(tokens)
        if one is None:
            return None
        size *= one[0] ** sign
        e, x, t, k = (a + sign * b for a, b in zip(dimension, one[1], strict=True))
        dimension, sign, empty = (e, x, t, k), 1, False
    return None if empty else (size, dimension)


def _factor(tokens: list[str]) -> tuple[float, Dimension] | None:
    """Consume a symbol or a bracket, and its power."""
    head = tokens.pop(0)
    if head == "(":
        found = _product(tokens)
        if not tokens or tokens.pop(0) != ")":
            return None
    else:
        found = SYMBOLS.get(head)
    if found is None:
        return None
    power = int(tokens.pop(0)) if tokens and tokens[0].lstrip("+-").isdigit() else 1
    if abs(power) > 9:
        return None
    e, x, t, k = (power * each for each in found[1])
    return found[0] ** power, (e, x, t, k)
