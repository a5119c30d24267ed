"""Make the shipped argon model: draw configurations, fit, test, write model and card.

    python -m models.argon.make

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
from typing import Any

import numpy as np

from models.argon.card import card
from models.argon.check import dynamics
from models.argon.states import STATES, Configurations, draw

__all__ = ["main"]

log = logging.getLogger(__name__)

MODELS = Path(__file__).resolve().parents[2] / "gkflux" / "models"
SETS = {"train": (20, 1), "valid": (2, 2), "test": (5, 3)}
"""Samples of every state, and the seed."""
SHAPE = {"features": 32, "gaussians": 25, "interactions": 2, "cutoff": 6.0, "max_z": 19}
SCALE = 0.02
"""eV: about what the energy of an atom varies by in the liquid."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=16_000, help="of the weights")
    parser.add_argument("--work", type=Path, default=Path("runs/argon"), help="for samples")
    parser.add_argument("--output", type=Path, default=MODELS / "argon.safetensors")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    sets = {name: _configurations(name, options.work) for name in SETS}
    results = _train(sets, options.updates, options.output)
    results["dynamics"] = asdict(_check(options.output, sets["test"]))
    options.output.with_suffix(".md").write_text(card(results), encoding="utf-8")
    log.info("wrote %s", options.output)


def _configurations(name: str, work: Path) -> Configurations:
    """Read a set, or draw it once."""
    samples, seed = SETS[name]
    path = work / f"{name}-{samples}-{seed}.npz"
    if not path.exists():
        log.info("drawing %d samples of %d states: %s", samples, len(STATES), name)
        np.savez(path, **asdict(draw(samples, seed=seed)))
    with np.load(path) as stored:
        return Configurations(**stored)


def _train(sets: dict[str, Configurations], updates: int, output: Path) -> dict[str, Any]:
    """Fit, save the model, and return what the card says of it."""
    import torch

    from gkflux.potentials.model_file import save_model
    from gkflux.potentials.schnet import Architecture, SchNet
    from models.argon.fit import ARGON, Fit, errors, fit, labelled

    torch.manual_seed(0)
    shape = Architecture(**SHAPE)  # type: ignore[arg-type]
    mean = float(sets["train"].energies.mean() / sets["train"].positions.shape[1])
    network = SchNet(shape, mean=mean, stddev=SCALE)
    graphs = {name: labelled(data, shape.cutoff) for name, data in sets.items()}
    begin = time.perf_counter()

    def progress(update: int, loss: float) -> None:
        if update % 500 == 0:
            log.info(
                "%d of %d: %.2e %s", update, updates, loss, errors(network, graphs["valid"])
            )

    fit(network, graphs["train"], Fit(updates), progress)
    results: dict[str, Any] = {
        "shape": shape.to_map(),
        "updates": updates,
        "seconds": time.perf_counter() - begin,
        "sizes": {name: len(data.box) for name, data in sets.items()},
        "weights": sum(weight.numel() for weight in network.parameters()),
        "neighbours": float(np.mean([len(g.d) / len(g.forces) for g in graphs["test"]])),
        "errors": errors(network, graphs["test"]),
        "by_kind": {
            kind: errors(
                network,
                [
                    g
                    for g, k in zip(graphs["test"], sets["test"].state, strict=True)
                    if STATES[int(k)].kind == kind
                ],
            )
            for kind in ("liquid", "crystal", "melting")
        },
    }
    provenance = {
        "made_by": "models/argon/make.py",
        "teacher": "Lennard-Jones argon, shifted force",
        "licence": "MIT",
        "updates": updates,
        "errors": results["errors"],
    }
    save_model(output, network, elements=[ARGON], provenance=provenance)
    return results


def _check(model: Path, test: Configurations) -> Any:
    """Run the liquid near the triple point with the model as a user loads it."""
    from gkflux.potentials.load import load_potential

    wanted = min(
        range(len(STATES)),
        key=lambda k: (
            STATES[k].kind != "liquid",
            abs(STATES[k].temperature - 90),
            abs(STATES[k].lattice - 5.72),
        ),
    )
    start = int(np.flatnonzero(test.state == wanted)[-1])
    return dynamics(
        load_potential(model),
        test.positions[start],
        float(test.box[start]),
        temperature=STATES[wanted].temperature,
        steps=10_000,
        timestep=5.0,
        seed=0,
    )


if __name__ == "__main__":
    main()
