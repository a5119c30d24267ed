"""Bad input: one clear line each, exit status 1, and nothing written or lost."""

import io
import json
import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

import stepson
from gkflux import GreenKubo, System
from gkflux import kappa as kappa_of
from gkflux.errors import FluxError
from gkflux.potentials.load import SHIPPED
from stepson_cli.main import main

CUBE = 'Lattice="12 0 0 0 12 0 0 0 12" Properties=species:S:1:pos:R:3'
PAIR = f"2\n{CUBE}\nAr 1 1 1\nAr 4.7 1 1\n"
CONFIG = """
[system]
structure = "atoms.xyz"
temperature = 80
[potential]
model = "argon"
[[stage]]
name = "warm"
ensemble = "langevin"
friction = 0.01
timestep = 5.0
steps = 20
[[stage]]
name = "production"
timestep = 5.0
steps = 20
heat_flux.every = 2
[output]
folder = "out"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that would run."""
    (tmp_path / "atoms.xyz").write_text(PAIR)
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "PWNED").exists()


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Expect exit status 1, nothing on stdout, one line on stderr; return the line."""
    assert main([str(word) for word in words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Expect that `run` refuses, and writes nothing."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    line = refused(capsys, "run", folder / "run.toml")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["atoms.xyz", "Empty file"]),
        (f"2\n{CUBE}\nXq 0 0 0\nXq 3 0 0\n", ["atoms.xyz", "'Xq' is no chemical element"]),
        (f"2\n{CUBE}\nHe 0 0 0\nHe 3 0 0\n", ["not trained on He"]),
        (f"2\n{CUBE}\nAr nan 0 0\nAr 3 0 0\n", ["atoms.xyz", "not finite"]),
        (f"2\n{CUBE}\nAr 0 0 0\nAr 12 0 0\n", ["atoms 0 and 1 of atoms.xyz"]),
        (f"2\n{CUBE}\nAr 0 0 0\nAr 3e8 0 0\n", ["atoms.xyz", "3e+08 Å", "unit"]),
        (f"0\n{CUBE}\n", ["atoms.xyz holds no atoms"]),
        ("2\n\nAr 0 0 0\nAr 3 0 0\n", ["'production'", "periodic"]),
        (f'2\n{CUBE} pbc="T T F"\nAr 0 0 1\nAr 3 0 -1\n', ["non-periodic cell", "atom 1"]),
        (f'2\n{CUBE} pbc="T T F"\nAr 0 0 1\nAr 3 0 1\n', ["'production'", "periodic"]),
        (PAIR.replace("0 0 0 12", "0 0 0 0"), ["atoms.xyz", "no lattice vector"]),
        (
            '1\nLattice="0.2 0 0 0 0.2 0 0 0 0.2"\nAr 0 0 0\n',
            ["atoms 0 and 0 of atoms.xyz", "cell"],
        ),
    ],
)
def test_structures(
    text: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "atoms.xyz").write_text(text)
    line = no_run(folder, capsys)
    assert all(word in line for word in words), line


def test_what_is_next_after_a_run_without_a_flux(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not Green-Kubo, which would refuse."""
    path = folder / "run.toml"
    path.write_text(CONFIG.replace("heat_flux.every = 2\n", ""))
    assert main(["run", str(path)]) == 0
    assert f"next: stepson info {folder}" in capsys.readouterr().out.replace("\n", " ")


def test_more_workers_than_replicas_are_not_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would hold half a gigabyte, for nothing."""
    monkeypatch.setattr("gkflux.processes._start", pytest.fail)
    assert main(["run", str(folder / "run.toml"), "--workers", "9999"]) == 0
    assert (folder / "out" / "production" / "md.son").exists()


def test_a_supercell_of_a_cluster(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "atoms.xyz").write_text("2\n\nAr 0 0 0\nAr 3 0 0\n")
    text = CONFIG.replace("temperature = 80", "temperature = 80\nsupercell = [2, 1, 1]")
    (folder / "run.toml").write_text(text)
    assert "atoms.xyz has no cell to repeat" in no_run(folder, capsys)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"atoms.xyz"', '"nope.xyz"', ["system.structure", "nope.xyz"]),
        ('"atoms.xyz"', '"."', ["system.structure", "no file"]),
        ('"argon"', '"nope.torch"', ["potential.model", "nope.torch", "shipped: argon"]),
        ('"argon"', '"atoms.xyz"', ["neither a safetensors nor a torch model file"]),
        ("timestep = 5.0", "timestep = 0", ["'warm'", "timestep", "above 0"]),
        ("steps = 20", "steps = 0", ["'warm'", "steps", "at least 1"]),
        ("= 80", "= -80", ["system.temperature = -80"]),
        ("temperature", "temprature", ["line 4", "did you mean 'temperature'?"]),
        ('"production"', '"warm"', ["two stages are called 'warm'"]),
        ("every = 2", 'gauge = "foo"', ["heat_flux.gauge", "'lattice' or 'none'"]),
        ("every = 2", 'gauge = "lattice"', ["needs system.lattice"]),
        ('"out"', '"atoms.xyz"', ["atoms.xyz", "not a directory"]),
    ],
)
def test_configurations(
    old: str,
    new: str,
    words: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "run.toml").write_text(CONFIG.replace(old, new))
    line = no_run(folder, capsys)
    assert all(word in line for word in words), line


def test_a_byte_order_mark_is_no_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("= 80", "= -80")
    (folder / "run.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert "system.temperature" in no_run(folder, capsys)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.folder / 'PWNED'}",)


def torch_bytes(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def ours(**changes: object) -> bytes:
    """The shipped model with another header."""
    content = (SHIPPED / "argon.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    stored = json.loads(content[8 : 8 + size])["__metadata__"]["gkflux"]
    header = {**json.loads(stored), **changes}
    return bytes_of(tensors_of(content), metadata={"gkflux": json.dumps(header)})


def shaped(**changes: object) -> bytes:
    content = (SHIPPED / "argon.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    stored = json.loads(content[8 : 8 + size])["__metadata__"]["gkflux"]
    return ours(architecture={**json.loads(stored)["architecture"], **changes})


def with_model(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (folder / "model").write_bytes(content)
    (folder / "run.toml").write_text(CONFIG.replace('"argon"', '"model"'))
    line = no_run(folder, capsys)
    assert str(folder / "model") in line
    return line


@pytest.mark.parametrize("zipped", [True, False])
def test_a_model_that_is_code_is_never_run(
    zipped: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch_bytes(
        {"config": Evil(folder), "state": {}}, _use_new_zipfile_serialization=zipped
    )
    assert "never run here" in with_model(content, folder, capsys)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_run(
    protocol: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_model(pickle.dumps(Evil(folder), protocol), folder, capsys)


@pytest.mark.parametrize("part", [0, 1, 8, 9, 100, 2000, 0.5, -1])
def test_truncated_models(
    part: float, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (SHIPPED / "argon.safetensors").read_bytes()
    size = int(part * len(content)) if 0 < part < 1 else int(part)
    with_model(content[:size], folder, capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch_bytes(torch.zeros(3)), "no SchNet, but a tensor"),
        (torch_bytes({"config": {}, "state": {}}), "but an empty dictionary"),
        (torch_bytes({"state": {}}), "but no config"),
        (torch_bytes({"config": {}, "state": [1]}), "no table of tensors"),
        (torch_bytes({"config": {}, "state": {"a": "b"}}), "no table of tensors"),
        (bytes_of({"a": torch.zeros(2)}), "not a gkflux model"),
        (bytes_of({"a": torch.zeros(2)}, metadata={"gkflux": "{"}), "not JSON"),
        (bytes_of({"a": torch.zeros(2)}, metadata={"gkflux": "[]"}), "no JSON object"),
        (ours(architecture=None), "names no architecture"),
        (ours(units={"energy": "kcal/mol", "length": "Å"}), "kcal/mol"),
        (ours(elements=["Ar"]), "atomic numbers"),
        (ours(format=99), "upgrade"),
        (ours(provenance=[1]), "provenance"),
        (shaped(features="x"), "features is not a whole number"),
        (shaped(features=7), "do not fit"),
        (shaped(cutoff=-1.0), "cutoff is not a length in Å"),
        (shaped(cutoff=1e9), "cutoff"),
        (shaped(readout="foo"), "readout is not one of ('ssp', 'silu')"),
    ],
)
def test_models(
    content: bytes, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = with_model(content, folder, capsys)
    assert words in line, line


def test_a_model_of_nan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = ours()
    state = {k: v * np.nan for k, v in tensors_of(content).items()}
    size = int.from_bytes(content[:8], "little")
    stored = json.loads(content[8 : 8 + size])["__metadata__"]
    assert "not finite" in with_model(bytes_of(state, metadata=stored), folder, capsys)


@pytest.mark.parametrize("command", ["info", "verify", "gk"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b'{"MD": {"timestep": 4}}\n===\n', "the text format of FHI-vibes"),
        (b"CDF\x01" + bytes(99), "not a .son file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a .son file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "not a .son file"),
        (pickle.dumps([1]), "not a .son file"),
        (bytes(5000), "not a .son file"),
    ],
)
def test_files_of_another_kind(
    command: str,
    content: bytes,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "md.son"
    path.write_bytes(content)
    line = refused(capsys, command, path)
    assert words in line
    assert str(path) in line
    assert path.read_bytes() == content


def test_no_message_names_a_command_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "trajectory.son"
    path.write_text('{"MD": {}}\n===\n')
    with pytest.raises(
        stepson.FormatError, match="this version cannot convert it"
    ) as found:
        stepson.open(path)
    assert "stepson convert" not in str(found.value)


def fluxes(path: Path, *, unit: str = "eV Å/fs", scale: float = 1.0, **given: Any) -> Path:
    """Write noise as a heat flux; `given` replaces what a good file has."""
    n, kelvin = given.get("n", 400), given.get("kelvin", 300.0)
    shape = given.get("shape", (3,))
    flux = given.get("flux", np.random.default_rng(1).normal(size=(n, *shape)) * scale)
    fields = [
        stepson.Field("heat_flux", "float64", shape, unit),
        stepson.Field("temperature", "float64", (), given.get("kelvins", "K")),
    ]
    with stepson.create(
        path,
        fields=fields,
        numbers=[18, 18],
        cell=given.get("cell", np.eye(3) * 10),
        pbc=given.get("cell", 1) is not None,
        timestep=given.get("timestep", 1.0),
        metadata=given.get("metadata"),
    ) as out:
        out.extend(steps=range(n), heat_flux=flux[:n], temperature=np.full(n, kelvin))
    return path


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"unit": ""}, ["heat_flux is stored without a unit", "eV Å/fs"]),
        ({"unit": "furlong"}, ["'furlong'", "eV Å/fs"]),
        ({"unit": "eV/fs"}, ["'eV/fs'"]),
        ({"kelvins": "°C"}, ["temperature is stored in '°C'"]),
        ({"shape": ()}, ["shape ()"]),
        ({"shape": (6,)}, ["shape (6,)"]),
        ({"n": 0}, ["0 samples of heat_flux"]),
        ({"n": 8}, ["fewer than 16"]),
        ({"flux": np.ones((400, 3))}, ["constant"]),
        ({"flux": np.zeros((400, 3))}, ["zero throughout"]),
        ({"flux": np.full((400, 3), np.nan)}, ["not finite"]),
        ({"kelvin": 0.0}, ["mean temperature of 0 K"]),
        ({"kelvin": -5.0}, ["mean temperature of -5 K"]),
        ({"cell": None}, ["no volume", "--volume"]),
        ({"timestep": None}, ["no timestep"]),
        ({"metadata": {"ensemble": "langevin"}}, ["only langevin", "thermostat"]),
    ],
)
def test_fluxes_that_cannot_be_reduced(
    given: dict[str, Any],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = fluxes(tmp_path / "md.son", **given)
    line = refused(capsys, "gk", path, "-o", tmp_path / "result")
    assert all(word in line for word in words), line
    assert not (tmp_path / "result").exists()


def kappa(path: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> float:
    assert main(["gk", str(path), "-o", str(out), "--json", *more]) == 0
    return float(json.loads(capsys.readouterr().out)["kappa"])


@pytest.mark.parametrize(
    ("unit", "scale"), [("eV Å/ps", 1e3), ("eV/(Å² fs)", 1e-3), ("meV nm/fs", 1e2)]
)
def test_a_flux_in_another_unit_is_converted(
    unit: str, scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = kappa(fluxes(tmp_path / "a.son"), tmp_path, capsys)
    other = fluxes(tmp_path / "b.son", unit=unit, scale=scale)
    assert kappa(other, tmp_path, capsys) == pytest.approx(good, rel=1e-9)


def test_a_volume_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = kappa(fluxes(tmp_path / "a.son"), tmp_path, capsys)
    other = fluxes(tmp_path / "b.son", cell=None)
    found = kappa(other, tmp_path, capsys, "--volume", "1000")
    assert found == pytest.approx(good, rel=1e-9)


def test_a_volume_that_is_not_that_of_the_cell_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be meant, for a layer in vacuum; it may be a wrong unit."""
    path = fluxes(tmp_path / "a.son")
    for volume, status in (("1000", "pass"), ("1", "warn")):
        kappa(path, tmp_path, capsys, "--volume", volume)
        checks = json.loads((tmp_path / "gk.json").read_text())["checks"]
        (found,) = (c for c in checks if c["name"] == "temperature and volume")
        assert found["status"] == status
    assert "the cell of the files has 1000.0" in found["message"]


def test_foreign_metadata_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fluxes(tmp_path / "a.son", metadata={"potential": "EAM", "stage": 3})
    assert kappa(path, tmp_path, capsys) > 0


def test_runs_that_differ_are_not_pooled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        fluxes(tmp_path / f"{k}.son", metadata={"potential": {"sha256": k * 64}})
        for k in "ab"
    )
    assert "the potential" in refused(capsys, "gk", first, second, "-o", tmp_path / "x")
    assert "give it once" in refused(capsys, "gk", first, first, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_missing_files_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("info", "verify", "gk"):
        assert "no such file" in refused(capsys, command, tmp_path / "nope.son")
    for command in ("info", "verify"):
        assert "is a folder" in refused(capsys, command, tmp_path)
    assert "0 files" in refused(capsys, "gk", tmp_path)
    assert "cannot be read" in refused(capsys, "run", tmp_path / "nope.toml")


def spoken(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell command, in which `stepson` is ours."""
    ours = f"{shlex.quote(sys.executable)} -m stepson_cli.main"
    return subprocess.run(
        ["sh", "-c", command.replace("stepson", ours, 1)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed: str, tmp_path: Path) -> None:
    path = shlex.quote(str(fluxes(tmp_path / "md.son")))
    done = spoken(f"stepson info {path} {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_json_on_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    path = shlex.quote(str(fluxes(tmp_path / "md.son")))
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = spoken(f"stepson info --json {path}", **ascii_only)
    assert done.returncode == 0
    assert json.loads(done.stdout)["fields"]
    assert "\\u00c5" in done.stdout


@pytest.mark.parametrize("columns", ["0", "1", "20", "x"])
def test_any_width(columns: str, tmp_path: Path) -> None:
    path = shlex.quote(str(fluxes(tmp_path / "md.son")))
    done = spoken(f"stepson info {path}", COLUMNS=columns)
    assert done.returncode == 0
    assert done.stdout.strip() or columns == "1"


def test_numbers_that_mean_nothing(tmp_path: Path) -> None:
    path = fluxes(tmp_path / "md.son")
    good = np.random.default_rng(1).normal(size=(400, 3))
    wrong: list[dict[str, Any]] = [
        {"temperature": -1.0},
        {"volume": 0.0},
        {"volume": float("nan")},
    ]
    for given in wrong:
        with pytest.raises(FluxError, match="must be a positive number"):
            GreenKubo.from_trajectories(path, **given)
    for flux in (good + 1j, "flux", None):
        with pytest.raises(FluxError, match="no array of real numbers"):
            kappa_of(flux, timestep=1.0, volume=1000.0, temperature=300.0)  # type: ignore[arg-type]
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(FluxError, match="between 0 and 1"):
            GreenKubo.from_trajectories(path).interval(level)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"numbers": ["Ar", "Ar"]}, "atomic numbers"),
        ({"numbers": [18.5, 18]}, "atomic numbers"),
        ({"masses": [0.0, 1.0]}, "masses must be positive"),
        ({"positions": "abc"}, "positions must be real"),
        ({"positions": [[1, 2, 3], [1, 2]]}, "positions must be real"),
        ({"positions": np.ones((2, 3)) * 1j}, "positions must be real"),
        ({"cell": "big"}, "cell must be real"),
        ({"cell": np.zeros((3, 3))}, "no lattice vector"),
    ],
)
def test_systems_from_python(given: dict[str, Any], words: str) -> None:
    atoms: dict[str, Any] = {
        "positions": np.eye(3)[:2] * 4,
        "numbers": [18, 18],
        "cell": [9, 9, 9],
    }
    with pytest.raises(FluxError, match=words):
        System(**(atoms | given))


@pytest.mark.parametrize("times", [0, -1, 1.5, "x", (2, 2), (1, 1, 0)])
def test_supercells_from_python(times: Any) -> None:
    system = System(positions=[[0, 0, 0]], numbers=[18], cell=[9, 9, 9])
    with pytest.raises(FluxError, match="give one whole number of at least 1, or three"):
        system.repeat(times)
