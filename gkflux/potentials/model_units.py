"""Units of foreign models: said once, when a model is read, and eV and Å from then on.

A SchNet changes its units with a few of its numbers: lengths are in the cutoff and in the
Gaussians, which only see r / r_c; energies in the scale and the constants that come after
the network. Constants are CODATA 2018, as in `stepson.units`.
"""

from dataclasses import dataclass, replace

from gkflux.errors import FluxError
from gkflux.potentials.schnet import Filter, SchNet
from stepson.units import ELEMENTARY_CHARGE

__all__ = ["ENERGIES", "LENGTHS", "Units", "in_our_units"]

AVOGADRO = 6.02214076e23
HARTREE = 27.211386245988
BOHR = 0.529177210903

ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": HARTREE,
    "Ha": HARTREE,
    "Rydberg": HARTREE / 2,
    "Ry": HARTREE / 2,
    "kcal/mol": 4184 / AVOGADRO / ELEMENTARY_CHARGE,
    "kJ/mol": 1000 / AVOGADRO / ELEMENTARY_CHARGE,
}
LENGTHS = {"Å": 1.0, "Angstrom": 1.0, "Ang": 1.0, "A": 1.0, "Bohr": BOHR, "nm": 10.0}


@dataclass(frozen=True)
class Units:
    """What a model computes in, by name; None where nobody has said.

    Raises:
        FluxError: a name that is not known.
    """

    energy: str | None = None
    length: str | None = None

    def __post_init__(self) -> None:
        _factor("energy_unit", self.energy, ENERGIES)
        _factor("length_unit", self.length, LENGTHS)

    def missing(self) -> list[str]:
        """The arguments that have not been given."""
        given = {"energy_unit": self.energy, "length_unit": self.length}
        return [name for name, value in given.items() if value is None]

    @property
    def factors(self) -> tuple[float, float]:
        """Of energies, to eV, and of lengths, to Å."""
        return (
            _factor("energy_unit", self.energy, ENERGIES),
            _factor("length_unit", self.length, LENGTHS),
        )


def _factor(argument: str, name: object, known: dict[str, float]) -> float:
    if name is None:
        return 1.0
    # the Å sign exists twice in Unicode: as a letter, and as a unit
    given = name.replace("\u212b", "Å").strip() if isinstance(name, str) else ""
    for candidate, factor in known.items():
        # MeV is a unit as well, 10^9 times as large
        alike = given.lower() == candidate.lower() and candidate != "meV"
        if alike or given == candidate:
            return factor
    raise FluxError(f"{argument} {name!r} is not known; known are {', '.join(known)}")


def in_our_units(network: SchNet, units: Units) -> SchNet:
    """The same network, of which energies come out in eV and edges go in in Å."""
    energy, length = units.factors
    if (energy, length) == (1.0, 1.0):
        return network
    shape = replace(network.shape, cutoff=network.shape.cutoff * length)
    other = SchNet(shape).to(network.embedding.weight.dtype)
    other.load_state_dict(network.state_dict())
    for part in other.modules():
        if isinstance(part, Filter):
            part.centres *= length
            part.width *= length
    for constant in (other.mean, other.stddev, other.atomref):
        constant *= energy
    return other
