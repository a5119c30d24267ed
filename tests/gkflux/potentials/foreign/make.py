"""Make the model files of this folder, and what SchNetPack computes with them.

    python make.py 1     with SchNetPack 1.0.1 and torch
    python make.py 2     with SchNetPack 2.1.1, PyTorch Lightning and torch

The models are small and random: nothing here was trained. Energies and forces of each, for
the structure in ``reference.json``, are SchNetPack's own, with its modules in float64.
"""

import importlib
import json
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gkflux.neighbors import neighbor_list

HERE = Path(__file__).resolve().parent
REFERENCE = HERE / "reference.json"
CUTOFF, ATOMREFS = 4.0, {1: -13.0, 6: -1029.0, 8: -2042.0}
SHAPE = {"n_atom_basis": 16, "n_interactions": 2}


def structure() -> dict[str, Any]:
    """Six atoms in a triclinic cell, shorter than the cutoff."""
    rng = np.random.default_rng(1)
    cell = 3.9 * (np.eye(3) + rng.normal(0, 0.1, (3, 3)))
    grid = np.array([[x, y, z] for x in (0, 0.5) for y in (0, 0.5) for z in (0.0, 0.4)])
    positions = (grid[:6] + rng.normal(0, 0.03, (6, 3))) @ cell
    return {
        "numbers": [6, 1, 8, 1, 6, 8],
        "positions": positions.tolist(),
        "cell": cell.tolist(),
    }


def filled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Fresh biases are zero: put something everywhere that is trained."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.is_floating_point() and value.requires_grad:
                value.add_(0.2 * torch.randn_like(value))
    return model


def evaluate(model: Any, inputs: dict[str, torch.Tensor], key: str) -> dict[str, Any]:
    """Energy and forces in float64; the model itself is not changed."""
    import copy

    double = {
        k: v.double() if v.is_floating_point() else v.clone() for k, v in inputs.items()
    }
    found = copy.deepcopy(model).double()(double)
    return {
        "energy": float(found[key].detach()),
        "forces": found["forces"].detach().reshape(-1, 3).tolist(),
    }


def first(atoms: dict[str, Any]) -> dict[str, Any]:
    """Files of SchNetPack 1, written as torch did in its time."""
    package = importlib.import_module("schnetpack")
    cutoffs = importlib.import_module("schnetpack.nn.cutoff")
    output = importlib.import_module("schnetpack.atomistic.output_modules")
    references = np.zeros((20, 1), dtype=np.float32)
    for z, energy in ATOMREFS.items():
        references[z] = energy

    def model(cutoff: Any, **options: Any) -> torch.nn.Module:
        net = package.SchNet(
            n_filters=12,
            cutoff=CUTOFF,
            n_gaussians=10,
            max_z=20,
            cutoff_network=cutoff,
            **SHAPE,
        )
        energy = output.Atomwise(
            n_in=16, property="energy", derivative="forces", negative_dr=True, **options
        )
        return filled(package.AtomisticModel(net, energy), 1)

    scaled = model(
        cutoffs.CosineCutoff,
        mean=torch.FloatTensor([-2.5]),
        stddev=torch.FloatTensor([1.7]),
        atomref=references,
    )
    hard = model(cutoffs.HardCutoff)
    # torch used to copy the source of modules into a file
    serialization: Any = torch.serialization
    serialization.get_source_lines_and_file = without_source
    found = {}
    for name, net in {"v1.best_model": scaled, "v1-hard.best_model": hard}.items():
        whole = torch.nn.DataParallel(net) if "hard" in name else net
        torch.save(whole, HERE / name, _use_new_zipfile_serialization=False)
        found[name] = evaluate(net, padded(atoms), "energy")
    return found


def without_source(*arguments: Any) -> Any:
    """Stands for torch's way to find a source."""
    raise OSError


def padded(atoms: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The neighbours of every atom as a row, filled up, as version 1 wants them."""
    edges = neighbor_list(atoms["positions"], atoms["cell"], True, CUTOFF)
    n = len(atoms["numbers"])
    longest = int(np.diff(edges.row).max())
    neighbours = np.zeros((1, n, longest), dtype=np.int64)
    offsets, mask = np.zeros((1, n, longest, 3)), np.zeros((1, n, longest))
    for i in range(n):
        row = slice(edges.row[i], edges.row[i + 1])
        count = edges.row[i + 1] - edges.row[i]
        neighbours[0, i, :count] = edges.other[row]
        offsets[0, i, :count] = edges.shift[row]
        mask[0, i, :count] = 1
    return {
        "_atomic_numbers": torch.tensor([atoms["numbers"]]),
        "_positions": torch.tensor([atoms["positions"]], dtype=torch.float64),
        "_cell": torch.tensor([atoms["cell"]], dtype=torch.float64),
        "_cell_offset": torch.tensor(offsets),
        "_neighbors": torch.tensor(neighbours),
        "_neighbor_mask": torch.tensor(mask),
        "_atom_mask": torch.ones(1, n, dtype=torch.float64),
    }


def second(atoms: dict[str, Any]) -> dict[str, Any]:
    """Files of SchNetPack 2, and a checkpoint of PyTorch Lightning."""
    loader: Any = torch.utils.data.dataloader
    loader.T_co = typing.TypeVar("T_co")  # torch has it elsewhere now
    package = importlib.import_module("schnetpack")
    nn, parts = package.nn, package.atomistic

    def model(net: Any, *after: Any, **options: Any) -> torch.nn.Module:
        energy = parts.Atomwise(n_in=net.n_atom_basis, output_key="energy", **options)
        forces = parts.Forces(energy_key="energy", force_key="forces")
        return filled(
            package.model.NeuralNetworkPotential(
                representation=net,
                input_modules=[parts.PairwiseDistances()],
                output_modules=[energy, forces],
                postprocessors=list(after),
            ),
            2,
        )

    def schnet(**options: Any) -> Any:
        return package.representation.SchNet(
            radial_basis=nn.GaussianRBF(n_rbf=10, cutoff=CUTOFF),
            cutoff_fn=nn.CosineCutoff(CUTOFF),
            **SHAPE,
            **options,
        )

    offsets = package.transform.AddOffsets("energy", add_mean=True, add_atomrefs=True)
    offsets.mean = torch.tensor(-2.5)
    for z, energy in ATOMREFS.items():
        offsets.atomref[z] = energy
    usual = model(schnet(n_filters=12), package.transform.CastTo64(), offsets)
    ssp = nn.shifted_softplus
    shared = model(schnet(shared_interactions=True), activation=ssp)
    painn = package.representation.PaiNN(
        n_atom_basis=8,
        n_interactions=1,
        radial_basis=nn.GaussianRBF(n_rbf=5, cutoff=CUTOFF),
        cutoff_fn=nn.CosineCutoff(CUTOFF),
    )
    found = {}
    for name, net in {"v2.best_model": usual, "v2-ssp.best_model": shared}.items():
        torch.save(net, HERE / name)
        found[name] = evaluate(net, listed(atoms), "energy")
    torch.save(model(painn), HERE / "v2-painn.best_model")
    checkpoint(package, usual, HERE / "v2.ckpt")
    return {**found, "v2.ckpt": found["v2.best_model"]}


def listed(atoms: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Atoms and edges as version 2 wants them."""
    edges = neighbor_list(atoms["positions"], atoms["cell"], True, CUTOFF)
    n = len(atoms["numbers"])
    return {
        "_atomic_numbers": torch.tensor(atoms["numbers"]),
        "_positions": torch.tensor(atoms["positions"], dtype=torch.float64),
        "_cell": torch.tensor(atoms["cell"], dtype=torch.float64)[None],
        "_pbc": torch.ones(3, dtype=torch.bool),
        "_idx_i": torch.from_numpy(edges.centre),
        "_idx_j": torch.from_numpy(edges.other),
        "_offsets": torch.tensor(edges.shift @ np.array(atoms["cell"])),
        "_n_atoms": torch.tensor([n]),
        "_idx_m": torch.zeros(n, dtype=torch.int64),
    }


def checkpoint(package: Any, net: Any, path: Path) -> None:
    """Write what a trainer writes: tensors, optimiser, hyper-parameters with the module."""
    lightning = importlib.import_module("pytorch_lightning")
    task = importlib.import_module("schnetpack.task")
    loss = task.ModelOutput(
        name="energy", loss_fn=torch.nn.MSELoss(), loss_weight=0.1, metrics={}
    )
    module = task.AtomisticTask(
        model=net,
        outputs=[loss],
        optimizer_cls=torch.optim.AdamW,
        optimizer_args={"lr": 5e-4},
        scheduler_cls=package.train.ReduceLROnPlateau,
        scheduler_args={"factor": 0.5},
    )
    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", max_epochs=1
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


def main() -> None:
    """Write the files of one version, and update the reference."""
    known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {"models": {}}
    known["structure"] = structure()
    known["models"].update({"1": first, "2": second}[sys.argv[1]](known["structure"]))
    REFERENCE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
