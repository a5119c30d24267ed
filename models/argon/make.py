"""Make the shipped argon model: draw configurations, fit, test, write model and card.

    python -m models.argon.make           # everything
    python -m models.argon.make --card    # measure a finished model, write its card

from the root of the repository; about a quarter of an hour on one core. Configurations
are kept in ``--work``, so that a second fit starts at once. The result is
``gkflux/models/argon.safetensors`` and the card beside it, whose numbers are measured
here and nowhere else.
"""

import argparse
import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gkflux.potentials.schnet import Architecture
from models.argon.card import Measured, card
from models.argon.check import Dynamics, dynamics
from models.argon.states import STATES, TRIPLE_POINT, Configurations, draw
from models.argon.teacher import ARGON

__all__ = ["main"]

log = logging.getLogger(__name__)

MODELS = Path(__file__).resolve().parents[2] / "gkflux" / "models"
SETS = {"train": (20, 1), "valid": (2, 2), "test": (5, 3)}
"""Samples of every state, and the seed."""
SHAPE = Architecture(features=32, gaussians=25, interactions=2, cutoff=6.0, max_z=19)
"""Of networks tried for the same time: 48 features gain nothing, 5.5 Å loses a third."""
SCALE = 0.02
"""eV: about what the energy of an atom varies by in the liquid."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make the shipped argon model.")
    parser.add_argument("--updates", type=int, default=10_000, help="of the weights")
    parser.add_argument("--work", type=Path, default=Path("runs/argon"), help="for samples")
    parser.add_argument("--output", type=Path, default=MODELS / "argon.safetensors")
    parser.add_argument("--card", action="store_true", help="do not fit, only measure")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    sets = {name: _configurations(name, options.work) for name in SETS}
    if not options.card:
        _train(sets, options.updates, options.output)
        log.info("wrote %s", options.output)
    text = card(_measure(options.output, sets))
    options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    log.info("wrote the card beside it")


def _configurations(name: str, work: Path) -> Configurations:
    """Read a set, or draw it once."""
    samples, seed = SETS[name]
    path = work / f"{name}-{samples}-{seed}.npz"
    if not path.exists():
        log.info("drawing %d samples of %d states: %s", samples, len(STATES), name)
        np.savez(path, **asdict(draw(samples, seed=seed)))
    with np.load(path) as stored:
        return Configurations(**stored)


def _train(sets: dict[str, Configurations], updates: int, output: Path) -> None:
    """Fit a fresh network, and save it with its origin and its errors on the test set."""
    import torch

    from gkflux.potentials.model_file import save_model
    from gkflux.potentials.schnet import SchNet
    from models.argon.fit import Fit, errors, fit, labelled

    torch.manual_seed(0)
    mean = float(sets["train"].energies.mean() / sets["train"].positions.shape[1])
    network = SchNet(SHAPE, mean=mean, stddev=SCALE)
    graphs = {name: labelled(data, SHAPE.cutoff) for name, data in sets.items()}
    begin = time.perf_counter()

    def progress(update: int, loss: float) -> None:
        if update % 500 == 0:
            found = errors(network, graphs["valid"])
            log.info("%d of %d: %.2e %s", update, updates, loss, found)

    fit(network, graphs["train"], Fit(updates), progress)
    provenance = {
        "made_by": "models/argon/make.py",
        "teacher": "Lennard-Jones argon, shifted force",
        "licence": "MIT",
        "updates": updates,
        "minutes": round((time.perf_counter() - begin) / 60, 1),
        "errors": errors(network, graphs["test"]),
    }
    save_model(output, network, elements=[ARGON], provenance=provenance)
    output.chmod(0o644)


def _measure(path: Path, sets: dict[str, Configurations]) -> Measured:
    """Everything that the card says of a model, from its file."""
    from gkflux.potentials.model_file import read_model
    from models.argon.fit import errors, labelled

    model, test = read_model(path), sets["test"]
    graphs = labelled(test, model.network.shape.cutoff)
    kinds = np.array([STATES[k].kind for k in test.state.astype(int)])
    by_kind = {
        kind: errors(model.network, [graphs[k] for k in np.flatnonzero(kinds == kind)])
        for kind in dict.fromkeys(kinds.tolist())
    }
    return Measured(
        shape=model.network.shape,
        weights=sum(weight.numel() for weight in model.network.parameters()),
        updates=model.provenance["updates"],
        minutes=model.provenance["minutes"],
        sizes={name: len(data.box) for name, data in sets.items()},
        neighbours=float(np.mean([len(g.d) / len(g.forces) for g in graphs])),
        errors={"all": errors(model.network, graphs), **by_kind},
        dynamics=_dynamics(path, test),
    )


def _dynamics(path: Path, test: Configurations) -> Dynamics:
    """Run the liquid near the triple point, with the model as a user loads it."""
    from gkflux.potentials.load import load_potential

    start = int(np.flatnonzero(test.state == STATES.index(TRIPLE_POINT))[-1])
    return dynamics(
        load_potential(path),
        test.positions[start],
        float(test.box[start]),
        temperature=TRIPLE_POINT.temperature,
        steps=10_000,
        timestep=5.0,
        seed=0,
    )


if __name__ == "__main__":
    main()
