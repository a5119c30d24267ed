"""Pickles that want to run something: they are read, and nothing runs."""

import ctypes
import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gkflux.errors import FluxError
from gkflux.potentials.inert import Array, Stub
from gkflux.potentials.load import load_potential
from gkflux.potentials.torch_files import read_torch

Container = Callable[[Any, Path], None]


def zipped(value: Any, path: Path) -> None:
    torch.save(value, path)


def legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


CONTAINERS = pytest.mark.parametrize("save", [zipped, legacy])


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> Any:
        function, arguments, state = self.parts
        return (function, arguments) if state is None else (function, arguments, state)


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that every attack would leave behind."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists(), "a pickle was executed"


def leaves(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def attacks(trace: Path) -> dict[str, Any]:
    import subprocess

    code = leaves(trace)
    command = f"touch {trace}"
    return {
        "os.system": Call(os.system, command),
        "subprocess": Call(subprocess.check_call, ["touch", str(trace)]),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "open": Call(open, str(trace), "w"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "a chain": Call(map, Call(getattr, Call(__import__, "os"), "system"), [command]),
        "compile": Call(exec, Call(compile, code, "file", "exec")),
        "a library": Call(ctypes.CDLL, str(trace)),
        "torch.load": Call(torch.load, str(trace)),
        "hub": Call(torch.hub.load, "any", "thing"),
        "a pickle in a pickle": Call(pickle.loads, pickle.dumps(Call(eval, code))),
    }


NAMES = sorted(attacks(Path("nowhere")))


@CONTAINERS
@pytest.mark.parametrize("name", NAMES)
def test_what_a_file_names_never_runs(
    tmp_path: Path, trace: Path, name: str, save: Container
) -> None:
    path = tmp_path / "model"
    attack = attacks(trace)[name]
    save({"config": {"a": attack}, "state": {"x": torch.ones(2)}, "b": [attack]}, path)
    content = read_torch(path)
    assert isinstance(content["config"]["a"], Stub)
    np.testing.assert_array_equal(content["state"]["x"].numbers(), [1, 1])
    with pytest.raises(FluxError) as caught:
        load_potential(path)
    assert "\n" not in str(caught.value)


def test_the_attacks_would_run_elsewhere(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    for name in ("os.system", "eval", "compile", "a pickle in a pickle"):
        trace = tmp_path / name
        pickle.loads(pickle.dumps(attacks(trace)[name]))
        assert trace.exists(), name


@CONTAINERS
def test_nor_as_the_state_of_a_tensor(tmp_path: Path, trace: Path, save: Container) -> None:
    attack = Call(os.system, f"touch {trace}")

    class Parameter:
        def __reduce__(self) -> Any:
            hooks = OrderedDict([(0, attack)])
            return torch._utils._rebuild_parameter_with_state, (
                torch.ones(3),
                True,
                hooks,
                {"__class__": attack, "hook": attack},
            )

    class Typed:
        def __reduce__(self) -> Any:
            return torch._tensor._rebuild_from_type_v2, (
                os.system,
                torch.Tensor,
                (f"touch {trace}",),
                {},
            )

    path = tmp_path / "model"
    save({"state": Parameter()}, path)
    np.testing.assert_array_equal(read_torch(path)["state"].numbers(), [1, 1, 1])
    save({"state": Typed()}, path)
    with pytest.raises(FluxError, match="rebuilt by an unknown function"):
        read_torch(path)


def raw(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def in_zip(program: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", program)


BUILD, SLOTS = b"b", b"N}X\x04\x00\x00\x00evilK\x01s\x86"


@pytest.mark.parametrize(
    "target",
    [
        name("torch._utils", "_rebuild_tensor_v2"),
        name("collections", "OrderedDict"),
        name("torch", "float32"),
        name("torch", "FloatStorage"),
        name("builtins", "set"),
        name("os", "system"),
        name("torch.ops", "load_library"),
        name("gkflux.potentials.inert", "Stub"),
        name("numpy", "dtype"),
    ],
)
def test_no_state_is_set_on_what_a_name_stands_for(tmp_path: Path, target: bytes) -> None:
    """A pickle may set attributes of anything it holds, functions and classes as well."""
    path = tmp_path / "model"
    in_zip(raw(target, SLOTS, BUILD), path)
    with pytest.raises(FluxError, match="damaged"):
        read_torch(path)
    assert not hasattr(Stub, "evil")


@pytest.mark.parametrize(
    "program",
    [
        raw(b"K\x01r\xff\xff\xff\x7f"),  # a place in the memo: 2^31 references
        raw(b"\x8e", (2**50).to_bytes(8, "little")),  # bytes, a million gigabytes
        raw(b"\x84\x00\x00\x00\x7f"),  # a name that this process may have registered
        raw(b"]" * 10_000),
        raw(b"(" * 10_000),
    ],
)
def test_programs_that_ask_for_too_much(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "model"
    in_zip(program, path)
    tracemalloc.start()
    try:
        with pytest.raises(FluxError):
            load_potential(path)
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()


def number(n: int) -> bytes:
    return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def table(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(k) + v for k, v in entries.items()) + b"u"


def doubled(first: bytes, twice: Callable[[bytes], bytes], depth: int = 22) -> bytes:
    """Something that holds something twice, which holds something twice ...: 2^22."""
    code = first + b"\x940"
    for k in range(depth):
        code += twice(b"h" + bytes([k])) + b"\x940"
    return code + b"h" + bytes([depth])


def module(children: bytes = b"}", kind: bytes = name("torch.nn", "Module")) -> bytes:
    parts = table(_parameters=b"}", _buffers=b"}", _modules=children)
    return kind + b")\x81" + parts + b"b"


def view(size: int, kind: str = "FloatStorage") -> bytes:
    """A tensor of one value, told to be many."""
    storage = text("storage") + name("torch", kind) + text("0") + text("cpu") + b"K\x01"
    rebuild = name("torch._utils", "_rebuild_tensor_v2") + b"((" + storage + b"tQK\x00"
    return rebuild + number(size) + b"\x85K\x00\x85\x89NtR"


LISTS = doubled(b"]", lambda h: b"](" + h + h + b"e")
TABLES = doubled(b"}", lambda h: table(a=h, b=h))
SETS = doubled(b"(\x91", lambda h: b"(" + h + h + b"\x85\x91")
EMBEDDING = table(**{"representation.embedding.weight": view(4)})


@pytest.mark.parametrize(
    ("program", "message"),
    [
        # keys are hashed by a recursion in C, without an end or through the stack
        (b"}" + doubled(b")", lambda h: h + h + b"\x86") + b"Ns", "tuples in tuples"),
        (b"})" + b"\x85" * 30_000 + b"Ns", "tuples in tuples"),
        (
            b"}" + name("builtins", "slice") * 99 + b"K\x01" + b"\x85R" * 99 + b"Ns",
            "builtins.slice",
        ),
        (b"}" + SETS + b"Ns", "unhashable"),
        # texts of what has no end
        (name("_codecs", "encode") + LISTS + b"\x85R", "list in place of a text"),
        (name("numpy", "dtype") + LISTS + b"\x85R", "list in place of a text"),
        (table(config=table(cutoff_network=LISTS), state=EMBEDDING), "no tensor"),
        (
            table(
                config=table(representation=table(cutoff_network=LISTS)), state=EMBEDDING
            ),
            "cutoff function a list is not supported",
        ),
        (b"}\x8b\x88\x13\x00\x00" + b"\x7f" * 5000 + b"Ns", "a dictionary of a int"),
        # walks through what is below itself
        (table(config=TABLES, state=EMBEDDING), "no tensor"),
        (table(config=b"}\x94" + text("a") + b"h\x00s", state=EMBEDDING), "no tensor"),
        (doubled(module(), lambda h: module(table(a=h, b=h))), "nested too deeply"),
        # memory
        (b"\x96" + (2**29).to_bytes(8, "little"), "damaged or truncated"),
        (b"".join(name("m", f"n{k}") + b"0" for k in range(10_001)), "than 10000 names"),
        (table(**{f"t{k}": view(2**27) for k in range(3)}), "268435456 values together"),
        (table(a=view(2**39)), "268435456 values"),
        # lines and colours of somebody else's
        (table(**{"a\nb\x1b[2J": b"N"}), r"a dictionary of 'a\?b\?\[2J'"),
        (text("os\n") + text("\x1b[2J") + b"\x93)R", "a class whose name is none"),
        (text("os") + text("x" * 300) + b"\x93)R", "a class whose name is none"),
        (
            module(table(representation=module(kind=text("a") + text("b\nc") + b"\x93"))),
            "a class whose name is none",
        ),
        # not what they should be
        (table(config=table(representation=b"K\x05"), state=EMBEDDING), "no tensor"),
        (table(config=table(representation=text("x")), state=EMBEDDING), "no tensor"),
    ],
)
def test_no_small_file_takes_the_process_down(
    tmp_path: Path, program: bytes, message: str
) -> None:
    path = tmp_path / "model"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", raw(program))
        archive.writestr("model/data/0", np.ones(1, dtype="<f4").tobytes())
    tracemalloc.start()
    try:
        with pytest.raises(FluxError, match=message) as caught:
            load_potential(path)
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_file_larger_than_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**40)
    with pytest.raises(FluxError, match="has 1100 GB, more than any SchNet"):
        load_potential(path)


def test_names_with_dots_reach_nothing(tmp_path: Path, trace: Path) -> None:
    path = tmp_path / "model"
    for module, attribute in (
        ("os", "path.os.system"),
        ("torch", "float32.__class__.__base__.__subclasses__"),
        ("gkflux.potentials.unpickle", "pickle.loads"),
    ):
        in_zip(
            raw(name(module, attribute), pickle.dumps((f"touch {trace}",), 2)[2:-1], b"R"),
            path,
        )
        assert isinstance(read_torch(path), Stub)


class Rebuilds:
    """A tensor that claims what it likes of its storage."""

    def __init__(self, count: int, offset: int, size: int, stride: int) -> None:
        self.claims = ("storage", count), offset, (size,), (stride,), False, None

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.claims


class Refers(pickle.Pickler):
    """Writes ``("storage", count)`` as torch refers to a storage of float32."""

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, tuple) and value[:1] == ("storage",) and len(value) == 2:
            return "storage", torch.FloatStorage, "0", "cpu", value[1]
        return None


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride", "message"),
    [
        (4, 0, 4, 1, ""),
        (4, 1, 2, 2, ""),
        (4, 1, 4, 1, "larger than its storage"),
        (4, 0, 2, 2**30, "larger than its storage"),
        (4, 0, 2**39, 0, "more than 268435456 values"),
        (4, -1, 2, 1, "sizes are no numbers"),
        (4, 0, 4, -1, "sizes are no numbers"),
        (9, 0, 4, 1, "a storage ends early"),
    ],
)
def test_a_tensor_stays_inside_of_its_storage(
    tmp_path: Path, count: int, offset: int, size: int, stride: int, message: str
) -> None:
    path = tmp_path / "model"
    program = io.BytesIO()
    Refers(program, 2).dump(Rebuilds(count, offset, size, stride))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", program.getvalue())
        archive.writestr("model/data/0", np.arange(4, dtype="<f4").tobytes())

    def read() -> Any:
        found = read_torch(path)
        assert isinstance(found, Array)
        try:
            return found.numbers()
        except pickle.UnpicklingError as error:
            raise FluxError(str(error)) from error

    if message:
        with pytest.raises(FluxError, match=message):
            read()
    else:
        expected = np.arange(4.0)[offset::stride][:size]
        np.testing.assert_array_equal(read(), expected)


@CONTAINERS
def test_tensors_of_every_kind_come_back(tmp_path: Path, save: Container) -> None:
    torch.manual_seed(0)
    values = {
        "matrix": torch.randn(3, 4),
        "turned": torch.randn(3, 4).T,
        "part": torch.randn(5, 6)[1:4, ::2],
        "wide": torch.ones(1).expand(7),
        "double": torch.randn(2, dtype=torch.float64),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "long": torch.arange(3),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "number": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }
    path = tmp_path / "model"
    extra = {"scalar": np.float64(1.5), "array": np.arange(6.0).reshape(2, 3), "set": {1}}
    save({**values, **extra, "size": torch.Size([2, 3]), "kind": torch.float32}, path)
    found = read_torch(path)
    for key, value in values.items():
        expected = value.detach().float() if key == "brain" else value.detach()
        numbers = found[key].numbers()
        np.testing.assert_array_equal(numbers, expected.numpy(), err_msg=key)
        assert numbers.dtype == expected.numpy().dtype
    assert found["scalar"] == 1.5
    np.testing.assert_array_equal(found["array"].values, extra["array"])
    assert found["set"] == {1}
    assert found["size"] == (2, 3)


@CONTAINERS
def test_every_truncation_is_one_line(tmp_path: Path, save: Container) -> None:
    path = tmp_path / "model"
    save({"state": {"a": torch.arange(9.0)}}, path)
    whole = path.read_bytes()
    for end in range(20, len(whole), 41):
        path.write_bytes(whole[:end])
        with pytest.raises(FluxError, match="damaged") as caught:
            read_torch(path)["state"]["a"].numbers()
        assert "\n" not in str(caught.value)


def test_any_flipped_byte_runs_nothing(tmp_path: Path) -> None:
    """An error, or other values: but no other exception, and no memory without end."""
    path = tmp_path / "model"
    legacy({"state": {"a": torch.arange(3.0)}, "b": [1, "two"]}, path)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in range(15, len(whole), 2):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            read_torch(path)
        except FluxError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_archives_of_other_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", raw(b"N"))
        archive.writestr("model/code/__torch__.py", "import os")
        archive.writestr("model/constants.pkl", raw(b")"))
    with pytest.raises(FluxError, match="TorchScript archive"):
        read_torch(path)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    with pytest.raises(FluxError, match=r"tar archive of torch before 0\.4"):
        load_potential(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", raw(b"N"))
    with pytest.raises(FluxError, match="compressed zip archive"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FluxError, match="not one of torch"):
        load_potential(path)
    path.write_bytes(pickle.dumps({"state": 1}))
    with pytest.raises(FluxError, match=r"not one of torch\.save"):
        load_potential(path)
