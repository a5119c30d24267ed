"""Units of stored fields: converted where they are known, refused where they are not."""

import pytest

from gkflux.errors import FluxError
from gkflux.stored_units import factor, parse
from stepson import Field
from stepson.units import ELEMENTARY_CHARGE


def field(unit: str, name: str = "heat_flux") -> Field:
    shape = (3,) if name == "heat_flux" else ()
    return Field(name, "float64", shape, unit)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("eV Å/fs", 1.0),
        ("eV*Å/fs", 1.0),
        ("eV·Å·fs^-1", 1.0),
        ("eV A fs⁻¹", 1.0),
        ("fs**-1 eV angstrom", 1.0),
        ("eV Å/ps", 1e-3),
        ("meV nm/ps", 1e-5),
        ("W m", 1e-15 * 1e10 / ELEMENTARY_CHARGE),
        ("kcal/mol Å/fs", 0.0433641),  # the usual 23.06 kcal/mol in an eV
    ],
)
def test_extensive_fluxes_are_converted(unit: str, expected: float) -> None:
    assert factor(field(unit), "x") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("unit", ["eV/Å²/fs", "eV/(Å^2 fs)", "eV Å^-2 fs^-1"])
def test_a_flux_per_volume_is_multiplied_by_it(unit: str) -> None:
    assert factor(field(unit), "x", volume=500.0) == pytest.approx(500.0)
    with pytest.raises(FluxError, match="x: heat_flux is stored per volume"):
        factor(field(unit), "x")


def test_watts_per_square_metre() -> None:
    expected = 1e-15 * 1e-20 / ELEMENTARY_CHARGE
    assert factor(field("W/m²"), "x", volume=1.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    "unit",
    ["", " ", "furlong", "eV", "eV Å", "eV/fs Å)", "(eV Å/fs", "/", "eV Å/fs^99", "2", "K"],
)
def test_what_is_not_known_is_refused(unit: str) -> None:
    with pytest.raises(FluxError, match=r"^md.son: heat_flux is stored .*eV Å/fs"):
        factor(field(unit), "md.son")


@pytest.mark.parametrize("unit", ["°C", "", "eV"])
def test_temperatures_are_in_kelvin(unit: str) -> None:
    assert factor(field("K", "temperature"), "x") == 1.0
    with pytest.raises(FluxError, match="temperature"):
        factor(field(unit, "temperature"), "x")


def test_powers_and_brackets() -> None:
    assert parse("nm^3") == (1000.0, (0, 3, 0, 0))
    assert parse("(ps K)^2") == (1e6, (0, 0, 2, 2))
