"""From a configuration to atoms, potential, lattice: what can be refused, early."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gkflux.dynamics.config import ConfigError, RunConfig, StageConfig
from gkflux.dynamics.engine import Flux, Moves
from gkflux.dynamics.state import Floats
from gkflux.errors import FluxError
from gkflux.neighbors import neighbor_list
from gkflux.system import System

__all__ = ["Ingredients", "prepare", "read_system", "stage_flux"]

FARTHEST = 1e6
"""Å: float32 positions are stored to 0.06 Å there."""
TOUCHING = 0.3
"""Å: no two nuclei of a structure are so close; a bond of hydrogen is 0.74 Å."""


@dataclass(frozen=True)
class Ingredients:
    """What all stages share.

    Attributes:
        system: the structure from which the first stage starts, repeated.
        potential: loaded, on its device.
        label: the potential, for people.
        lattice: shape ``(n, 3)``, Å, each row next to its atom; None without a lattice.
        device: ``cpu`` or ``cuda``.
    """

    system: System
    potential: Moves
    label: str
    lattice: Floats | None
    device: str

    @property
    def provenance(self) -> dict[str, Any]:
        """What names the potential in METADATA."""
        known = dict(self.potential.provenance)
        known.setdefault("layers", self.potential.layers)
        known.setdefault("cutoff", self.potential.cutoff)
        return known


def prepare(config: RunConfig, device: str) -> Ingredients:
    """Read the structure and load the potential.

    Raises:
        ConfigError: a file is missing, lattice and structure do not fit, no velocities.
        FluxError: the structure or the model cannot be used.
    """
    system = read_system(config)
    potential, label = _load_potential(config, device)
    lattice = _lattice(config, system)
    ingredients = Ingredients(system, potential, label, lattice, device)
    for stage in config.stage:  # now, and not when the stages before it are done
        _check_cell(config, stage, system)
        stage_flux(config, stage, ingredients)
    return ingredients


def _check_cell(config: RunConfig, stage: StageConfig, system: System) -> None:
    """Refuse a constant pressure where there are no walls to press on."""
    if stage.told.changes_cell and not system.pbc.all():
        raise ConfigError(
            f"stage {stage.name!r}: ensemble 'npt' needs a structure that is periodic in "
            "all directions",
            config.path,
        )


def read_system(config: RunConfig) -> System:
    """Read the structure and repeat it.

    Raises:
        ConfigError: no such file, no atoms in it, two at one place, a supercell of what has
            no cell, or no velocities in it where they are asked for.
    """
    path = _existing(config, "system.structure", config.system.structure)
    system = _read(path)
    if system.n_atoms == 0:
        raise ConfigError(f"system.structure: {path.name} holds no atoms", config.path)
    if system.cell is None and any(n > 1 for n in config.system.supercell):
        raise ConfigError(
            f"system.supercell: {path.name} has no cell to repeat; add one, or remove "
            "supercell",
            config.path,
        )
    _check_distances(config, path, system)
    if system.cell is not None:
        system = system.repeat(config.system.supercell)
    if config.system.velocities == "file" and system.velocities is None:
        raise ConfigError(
            f"system.velocities = 'file', but {path.name} holds none; use 'draw'",
            config.path,
        )
    return system


def _check_distances(config: RunConfig, path: Path, system: System) -> None:
    """Refuse atoms on top of one another, and coordinates that no float32 can resolve."""
    far = float(np.abs(system.positions).max())
    if far > FARTHEST:
        raise ConfigError(
            f"system.structure: an atom of {path.name} has a coordinate of {far:.3g} Å; "
            "check the unit of the positions",
            config.path,
        )
    close = neighbor_list(system.positions, system.cell, system.pbc, TOUCHING)
    if len(close):
        first, second = int(close.centre[0]), int(close.other[0])
        raise ConfigError(
            f"system.structure: atoms {first} and {second} of {path.name} (counted from 0) "
            f"are closer than {TOUCHING} Å; remove one, or check the unit of positions and "
            "cell",
            config.path,
        )


def _existing(config: RunConfig, key: str, name: str) -> Path:
    path = config.resolve(name)
    if not path.is_file():
        raise ConfigError(f"{key}: there is no file {path}", config.path)
    return path


def _read(path: Path) -> System:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        return System.read(path)


def _load_potential(config: RunConfig, device: str) -> tuple[Moves, str]:
    from gkflux.potentials.load import load_potential

    asked = config.potential
    units = asked.units
    potential: Moves = load_potential(
        _source(config),
        dtype=asked.dtype,
        device=device,
        exact_filters=asked.exact_filters,
        elements=_elements(config),
        energy_unit=None if units is None else units.energy,
        length_unit=None if units is None else units.length,
        readout=asked.readout,
        cutoff_function=asked.cutoff_function,
        parameters=asked.parameters,
    )
    known = potential.provenance
    kind, dtype = known.get("kind", "model"), known.get("dtype", asked.dtype)
    return potential, f"{Path(asked.model).name}, {kind}, {dtype}, {device}"


def _source(config: RunConfig) -> str | Path:
    """A file of the configuration, with its folder, or a name that needs no file.

    Raises:
        ConfigError: neither.
    """
    from gkflux.potentials.load import ANALYTIC, shipped_models
    from gkflux.potentials.python_model import PREFIX

    name = config.potential.model
    if name.startswith(PREFIX):
        place, _, function = name.removeprefix(PREFIX).rpartition(":")
        if not place.endswith(".py"):
            return name
        return f"{PREFIX}{_existing(config, 'potential.model', place)}:{function}"
    source = config.resolve(name)
    if source.is_file():
        return source
    if name in (*shipped_models(), *ANALYTIC):
        return name
    shipped = ", ".join(shipped_models()) or "none"
    raise ConfigError(
        f"potential.model: there is no file {source} and no shipped model {name!r} "
        f"(shipped: {shipped}; by name: {', '.join(ANALYTIC)}, {PREFIX}FILE.py:NAME)",
        config.path,
    )


def _elements(config: RunConfig) -> list[int] | None:
    from ase.data import atomic_numbers

    names = config.potential.elements
    unknown = [name for name in names or () if name not in atomic_numbers]
    if unknown:
        raise ConfigError(
            f'potential.elements: {unknown[0]!r} is no chemical symbol, such as "Zr"',
            config.path,
        )
    return None if names is None else [atomic_numbers[name] for name in names]


def _lattice(config: RunConfig, system: System) -> Floats | None:
    """Read the reference lattice and put each of its points next to its atom."""
    if config.system.lattice is None:
        return None
    from gkflux.flux.gauge import fit_lattice

    path = _existing(config, "system.lattice", config.system.lattice)
    lattice = _read(path)
    if lattice.n_atoms != system.n_atoms:
        lattice = _repeated(config, lattice)
    if not np.array_equal(lattice.numbers, system.numbers):
        raise ConfigError(
            f"system.lattice: {path.name} holds {lattice.formula}, in another order or "
            f"number than the structure, {system.formula}",
            config.path,
        )
    try:
        return np.asarray(fit_lattice(system, lattice))
    except FluxError as error:
        raise ConfigError(f"system.lattice: {error}", config.path) from None


def _repeated(config: RunConfig, lattice: System) -> System:
    """Repeat the lattice of a small cell as its structure was.

    Sites are put next to their atoms first: an atom that the small cell has wrapped to its
    other side is a vector of the small cell away from its site, and so are all its copies.
    """
    cell = _read(config.resolve(config.system.structure))
    if np.array_equal(cell.numbers, lattice.numbers):
        from gkflux.flux.gauge import fit_lattice

        try:
            lattice = lattice.moved(fit_lattice(cell, lattice))
        except FluxError as error:
            raise ConfigError(f"system.lattice: {error}", config.path) from None
    return lattice.repeat(config.system.supercell)


def stage_flux(
    config: RunConfig, stage: StageConfig, ingredients: Ingredients
) -> Flux | None:
    """Return which flux a stage computes; None without ``heat_flux``.

    Raises:
        ConfigError: the system is a cluster; a balance is asked for that cannot be.
    """
    flux = stage.heat_flux
    if "stress" in stage.record.fields and np.isnan(ingredients.system.volume):
        raise ConfigError(
            f"stage {stage.name!r}: stress needs a volume, three lattice vectors",
            config.path,
        )
    if flux is None:
        return None
    if not ingredients.system.pbc.all():
        raise ConfigError(
            f"stage {stage.name!r}: heat_flux needs a system that is periodic in all "
            "directions",
            config.path,
        )
    layers, check = ingredients.potential.layers, flux.check_balance
    if check and flux.formulation == "local" and layers > 1:
        raise ConfigError(
            f"stage {stage.name!r}: heat_flux.formulation = 'local' leaves out the power "
            f"that messages of {layers} interaction layers carry, so that no atom "
            "balances; remove check_balance, or use 'semilocal'",
            config.path,
        )
    gauge = flux.gauge or ("none" if ingredients.lattice is None else "lattice")
    if gauge == "lattice":
        both = bool(flux.plain) and flux.convective
        return Flux(flux.formulation, gauge, False, ingredients.lattice, check, both)
    return Flux(flux.formulation, gauge, flux.convective, None, check)
