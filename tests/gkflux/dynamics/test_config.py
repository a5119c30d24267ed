"""The configuration: what is accepted, and one clear line for everything that is not."""

from pathlib import Path

import pytest

from gkflux.dynamics.config import ConfigError, load, parse

GOOD = """
[system]
structure = "geometry.in"
supercell = [2, 2, 2]
lattice = "lattice.in"
temperature = 300
velocities = "draw"
seed = 42

[potential]
model = "model_n2.torch"
dtype = "float32"

[[stage]]
name = "thermalise"
ensemble = "langevin"
timestep = 4.0
steps = 10_000
friction = 0.002
record.every = 100

[[stage]]
name = "production"
ensemble = "nve"
timestep = 4.0
steps = 250_000
replicas = 11
starts = { spacing = 1000 }
record = { every = 10, fields = ["positions", "velocities"], precision.positions = 1e-4 }
heat_flux = { every = 2, formulation = "semilocal", gauge = "lattice" }

[output]
folder = "zro2-300K"
"""


def test_the_configuration_of_the_documentation(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(GOOD)
    config = load(path)
    assert config.text == GOOD
    assert config.folder == tmp_path / "zro2-300K"
    assert config.resolve("geometry.in") == tmp_path / "geometry.in"
    production = config.stage[1]
    assert production.replicas == 11
    assert production.starts.spacing == 1000
    assert production.record.precision == {"positions": 1e-4}
    assert production.heat_flux is not None
    assert production.heat_flux.gauge == "lattice"
    assert config.stage[0].record.every == 100
    assert config.stage[0].record.fields == ["positions", "velocities"]


def test_length_and_replicas_can_be_changed_from_outside() -> None:
    config = parse(GOOD, Path("run.toml"))
    changed = config.changed(steps=500, replicas=2)
    assert (changed.stage[-1].steps, changed.stage[-1].replicas) == (500, 2)
    assert changed.stage[0] == config.stage[0]
    assert changed.text == GOOD
    with pytest.raises(ConfigError, match="steps = 0: expected a number of at least 1"):
        config.changed(steps=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "friction = 0.002",
            "fricton = 0.002",
            "line 19: stage 'thermalise': fricton is not known; did you mean 'friction'?",
        ),
        ("[output]", "[outptu]", "outptu is not known; did you mean 'output'?"),
        ("every = 2,", "evry = 2,", "heat_flux.evry is not known; did you mean 'every'?"),
        ("seed = 42", "quux = 1", "system.quux is not known; known are structure, super"),
        ("= 300\n", '= "300"\n', "temperature = '300': expected a number"),
        ("= 300\n", "= 0\n", "temperature = 0: expected a number above 0"),
        ("= 300\n", "= inf\n", "expected a finite number"),
        ("steps = 10_000", "steps = 1.5", "steps = 1.5: expected a whole number"),
        ("replicas = 11", "replicas = 0", "replicas = 0: expected a number of at least 1"),
        ("[2, 2, 2]", "[2, 2]", "supercell = a table or list: expected at least 3 entr"),
        ('"nve"', '"nvt"', "ensemble = 'nvt': expected 'nve', 'langevin', 'csvr' or 'npt'"),
        ('"nve"', '"csvr"', "'csvr' needs relaxation (fs), for example 100"),
        ('"nve"', '"npt"', "'npt' needs pressure (GPa), for example 0"),
        ('"nve"', '"npt"\npressure = 0', "'npt' needs one thermostat: relaxation (fs)"),
        ('"nve"', '"npt"\npressure = inf', "pressure = inf: expected a finite number"),
        ('"nve"', '"nve"\npressure = 0', "pressure has no meaning with ensemble 'nve'"),
        ('"nve"', '"csvr"\nrelaxation = 0', "relaxation = 0: expected a number above 0"),
        (
            '"nve"',
            '"npt"\npressure = 0\nrelaxation = 100',
            "heat_flux has no meaning with ensemble 'npt', whose cell changes",
        ),
        ('"float32"', '"float16"', "dtype = 'float16': expected 'float32' or 'float64'"),
        ("friction = 0.002", "", "ensemble 'langevin' needs friction (1/fs)"),
        ('"langevin"', '"nve"', "friction has no meaning with ensemble 'nve'"),
        ('structure = "geometry.in"', "", "system.structure is missing"),
        ('lattice = "lattice.in"', "", "gauge = 'lattice' needs system.lattice"),
        ('"production"', '"thermalise"', "two stages are called 'thermalise'"),
        ('"production"', '"../x"', "name '../x' cannot be a folder"),
        (
            "spacing = 1000",
            "spacing = 1001",
            "start from 10010 steps of stage 'thermalise'",
        ),
        ("precision.positions", "precision.forces", "'forces', which is not recor"),
        ('["positions", "velocities"]', '["positions", "charge"]', "fields.1 = 'charge'"),
        ("seed = 42", "seed = 42 43", "not valid TOML"),
        ("seed = 42", "seed = -1", "seed = -1: expected a number of at least 0"),
    ],
)
def test_one_clear_line(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new), Path("somewhere/run.toml"))
    text = str(caught.value)
    assert text.startswith("run.toml: ")
    assert message in text
    assert "\n" not in text.partition("not valid TOML")[0]


def test_replicas_of_a_later_stage_must_match() -> None:
    third = """
[[stage]]
name = "longer"
timestep = 4.0
steps = 100
replicas = 5
"""
    with pytest.raises(ConfigError, match="the stage before has 11"):
        parse(GOOD.replace("[output]", third + "[output]"), Path("run.toml"))
    config = parse(
        GOOD.replace("[output]", third.replace("5", "11") + "[output]"), Path("run.toml")
    )
    assert config.stage[2].replicas == 11


def test_replicas_of_a_first_stage_from_one_file_would_be_equal() -> None:
    text = GOOD.replace('"draw"', '"file"').replace(
        'ensemble = "langevin"\ntimestep = 4.0\nsteps = 10_000\nfriction = 0.002',
        'ensemble = "nve"\ntimestep = 4.0\nsteps = 10_000\nreplicas = 11',
    )
    text = text.replace("starts = { spacing = 1000 }\n", "")
    with pytest.raises(ConfigError, match="11 replicas from one file would all be equal"):
        parse(text, Path("run.toml"))


def test_a_supercell_does_not_repeat_the_velocities_of_a_file() -> None:
    """All its cells would move alike for ever: the dynamics of one small cell."""
    langevin = GOOD.replace('"draw"', '"file"')
    assert parse(langevin, Path("run.toml")).system.supercell == [2, 2, 2]
    text = langevin.replace(
        'ensemble = "langevin"\ntimestep = 4.0\nsteps = 10_000\nfriction = 0.002',
        'ensemble = "nve"\ntimestep = 4.0\nsteps = 10_000',
    )
    text = text.replace("starts = { spacing = 1000 }\n", "").replace("replicas = 11\n", "")
    with pytest.raises(ConfigError, match="all cells of the supercell would move alike"):
        parse(text, Path("run.toml"))
    one = parse(text.replace("[2, 2, 2]", "[1, 1, 1]"), Path("run.toml"))
    assert one.system.velocities == "file"


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "no.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load(path)


def test_uneven_cadences_are_named() -> None:
    text = GOOD.replace("steps = 250_000", "steps = 250_005")
    assert parse(text, Path("x")).stage[1].uneven() == [
        "record.every = 10",
        "heat_flux.every = 2",
    ]
    assert parse(GOOD, Path("x")).stage[1].uneven() == []
