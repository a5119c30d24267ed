"""The input of the demonstrations: what a user would write.

Liquid argon at the triple point of the Lennard-Jones fluid, reduced temperature 0.722 and
density 0.8442 with epsilon / kB = 119.8 K and sigma = 3.405 Å: the state for which the
thermal conductivity of the Lennard-Jones fluid is known best, 0.131 to 0.134 W/(m K) (S.
Viscardy, J. Servantie, P. Gaspard, J. Chem. Phys. 126, 184513 (2007): 6.946 ± 0.12 in
reduced units).
"""

import itertools
import random
from dataclasses import dataclass

__all__ = ["DEMOS", "Demo"]

SIGMA = 3.405  # Å
WELL = 119.8  # K, the depth of the well by Boltzmann's constant
DENSITY = 0.8442  # atoms in a volume of sigma³
TEMPERATURE = 0.722 * WELL
CELLS = 3  # conventional cells of the face-centred lattice along each edge: 108 atoms
JITTER = 0.2  # Å in each direction: enough disorder for the lattice to melt in 10 ps
BASIS = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))

ARGON = """\
# Liquid argon at its triple point, with the potential that comes with stepson.

[system]
structure = "argon.xyz"          # beside this file; whatever ASE reads
temperature = {temperature:.1f}               # K
seed = 1                         # everything random follows from it

[potential]
model = "argon"                  # a shipped one; else the path of a file

[[stage]]
name = "melt"                    # the structure is a crystal, more or less
ensemble = "langevin"
temperature = 140
timestep = 5.0                   # fs
steps = 4_000
friction = 0.01                  # 1/fs
record.every = 100

[[stage]]
name = "thermalise"
ensemble = "langevin"
timestep = 5.0
steps = 6_000
friction = 0.005
record.every = 100

[[stage]]
name = "production"
ensemble = "nve"
timestep = 5.0
steps = {steps}
replicas = 4                     # start from different states of the stage before
record.every = 50
heat_flux.every = 2              # a liquid: no reference lattice, so gauge "none"

[output]
folder = "run"
commit_seconds = 2               # how much work a crash may cost; 30 by default
"""


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes:
        name: also of the shipped model and of the files.
        title: what is simulated.
        steps: of the production.
        reference: what is known about the result.
    """

    name: str
    title: str
    steps: int
    reference: str

    def files(self, steps: int) -> dict[str, str]:
        """Write the input: names of files and their text.

        Args:
            steps: of the production stage.
        """
        config = ARGON.format(temperature=TEMPERATURE, steps=f"{steps:_}")
        return {f"{self.name}.xyz": _liquid(), f"{self.name}.toml": config}


DEMOS = {
    "argon": Demo(
        name="argon",
        title="liquid argon at its triple point, 108 atoms, a two-layer SchNet",
        steps=24_000,
        reference=(
            "the Lennard-Jones fluid has 0.131 to 0.134 W/(m K) at this state.\nThe model "
            "imitates it, with 108 atoms: expect a value near that, not on it."
        ),
    )
}


def _liquid() -> str:
    """Place atoms on a jittered face-centred lattice, as extended XYZ."""
    edge = SIGMA * (4 * CELLS**3 / DENSITY) ** (1 / 3)
    noise = random.Random(0)
    cells = list(itertools.product(range(CELLS), repeat=3))
    rows = [_site(cell, site, edge / CELLS, noise) for cell in cells for site in BASIS]
    lattice = f"{edge:.6f} 0 0 0 {edge:.6f} 0 0 0 {edge:.6f}"
    head = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    return "\n".join([str(len(rows)), head, *rows, ""])


def _site(
    cell: tuple[int, ...], site: tuple[float, ...], spacing: float, noise: random.Random
) -> str:
    place = [
        spacing * (corner + part) + noise.gauss(0, JITTER)
        for corner, part in zip(cell, site, strict=True)
    ]
    return "Ar" + "".join(f" {x:12.6f}" for x in place)
