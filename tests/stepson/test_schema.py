"""Fields, cadences and what a schema refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson import Field, FormatError, SchemaError
from stepson.schema import Schema, as_fields


def test_field_keeps_what_it_is_given() -> None:
    field = Field("positions", "f4", ("atom", 3), "Å", every=10, precision=1e-4)
    assert field.dtype == "float32"
    assert field.shape == ("atom", 3)
    assert field.per_atom
    assert not field.small
    assert field.sample_shape(5) == (5, 3)
    assert field.sample_bytes(5) == 60


def test_due() -> None:
    field = Field("energy", "float64", (), "eV", every=10, offset=3)
    assert [step for step in range(30) if field.due(step)] == [3, 13, 23]
    assert not any(Field("x", "int8", (), "", every=None).due(step) for step in range(9))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("1x", "float64", (), ""), {}),
        (("x", "complex128", (), ""), {}),
        (("x", "no dtype", (), ""), {}),
        (("x", "float64", (3, "atom"), ""), {}),
        (("x", "float64", ("atoms",), ""), {}),
        (("x", "float64", "atom", ""), {}),
        (("x", "float64", (0,), ""), {}),
        (("x", "float64", (True,), ""), {}),
        (("x", "float64", (), ""), {"every": 0}),
        (("x", "float64", (), ""), {"every": 2, "offset": 2}),
        (("x", "float64", (), ""), {"every": 2.0}),
        (("x", "float64", (), ""), {"every": None, "offset": 1}),
        (("x", "float64", (), ""), {"precision": 1e-3}),
        (("x", "int32", ("atom",), ""), {"precision": 1e-3}),
        (("x", "float64", ("atom",), ""), {"precision": -1.0}),
        (("x", "float64", (), ""), {"attributes": {"a": [1]}}),
    ],
)
def test_field_refuses(arguments: tuple[object, ...], options: dict[str, object]) -> None:
    with pytest.raises(SchemaError):
        Field(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["step", "steps", "time", "index", "fields", "to_ase"])
def test_names_of_attributes_are_refused_for_new_files_and_read(name: str) -> None:
    field = Field(name, "float64", (), "")
    with pytest.raises(SchemaError, match="something else"):
        as_fields([field])
    stored = Schema((field,), 1).to_map()
    assert Schema.from_map(stored, 64).fields == (field,)


def test_cadences() -> None:
    schema = Schema(
        (
            Field("a", "float64", (), "", every=2),
            Field("b", "float64", (), "", every=10),
            Field("c", "float64", (), "", every=2),
            Field("d", "float64", (), "", every=None),
            Field("e", "float64", (), "", every=None),
        ),
        0,
    )
    assert [[f.name for f in group.fields] for group in schema.cadences] == [
        ["a", "c"],
        ["b"],
        ["d"],
        ["e"],
    ]
    assert schema.cadence_of == {"a": 0, "b": 1, "c": 0, "d": 2, "e": 3}


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (Field("a", "int8", (), ""),) * 2,
        tuple(Field(f"a{i}", "int8", (), "", every=i + 1) for i in range(9)),
        (Field("a", "float64", (2**24,), ""),),
    ],
)
def test_schema_refuses(fields: tuple[Field, ...]) -> None:
    with pytest.raises(SchemaError):
        Schema(fields, 1)


def test_map_round_trip() -> None:
    field = Field("x", "float32", ("atom", 3), "Å", 4, 1, 1e-3, "raw", {"gauge": "none"})
    schema = Schema((field, Field("y", "bool", (), "", every=None)), 7)
    assert Schema.from_map(schema.to_map(), 0) == schema


@pytest.mark.parametrize(
    "change",
    [
        {"n_atoms": "7"},
        {"n_atoms": -1},
        {"fields": None},
        {"fields": [{"name": "x"}]},
        {"fields": [{"name": "x", "dtype": "O", "shape": [], "unit": ""}]},
        {"fields": [7]},
    ],
)
def test_hostile_map(change: dict[str, object]) -> None:
    stored = Schema((Field("x", "bool", (), ""),), 7).to_map()
    with pytest.raises(FormatError):
        Schema.from_map({**stored, **change}, 64)


def test_unknown_key_of_a_field_is_ignored() -> None:
    stored = Schema((Field("x", "bool", (), ""),), 7).to_map()
    stored["fields"][0]["later"] = 1
    assert Schema.from_map(stored, 64).fields[0].name == "x"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timestep": 0}, "timestep is a positive number"),
        ({"timestep": float("nan")}, "timestep is a positive number"),
        ({"timestep": "4"}, "timestep is a positive number"),
        ({"pbc": "no"}, "pbc is True, False"),
        ({"pbc": [True, False]}, "pbc is True, False"),
        ({"cell": np.full((3, 3), np.nan)}, "cell are not finite"),
        ({"masses": ["a", "b"]}, "masses are real numbers"),
        ({"commmit": "auto"}, "no option 'commmit'"),
    ],
)
def test_what_create_refuses_leaves_nothing_behind(
    given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    fields = [Field("energy", "float64", (), "eV")]
    with pytest.raises(SchemaError, match=words):
        stepson.create(tmp_path / "x.son", fields=fields, numbers=[1, 1], **given)
    assert not list(tmp_path.iterdir())


def test_numbers_too_large_for_the_dtype_are_refused(tmp_path: Path) -> None:
    fields = [Field("positions", "float32", ("atom", 3), "Å")]
    with stepson.create(tmp_path / "x.son", fields=fields, numbers=[1]) as out:
        with pytest.raises(SchemaError, match=r"numbers up to 3\.4e"):
            out.append(step=0, positions=np.full((1, 3), 1e300))
        with pytest.raises(SchemaError, match=r"numbers up to 3\.4e"):
            out.extend(steps=[0], positions=np.full((1, 1, 3), 1e300))
        out.append(step=0, positions=np.full((1, 3), np.inf))
    with stepson.open(tmp_path / "x.son") as trajectory:
        assert len(trajectory) == 1
