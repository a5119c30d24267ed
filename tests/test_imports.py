"""Who may import whom, and what an import may cost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import stepson

HEAVY = ("torch", "dask", "click", "rich", "ase", "blosc2", "scipy", "matplotlib", "numba")


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(chr(10).join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


@pytest.mark.parametrize("package", ["stepson", "stepson.trajectory"])
def test_the_format_imports_none_of_the_heavy_libraries(package: str) -> None:
    assert not _modules_after(f"import {package}") & set(HEAVY)


def test_gkflux_imports_torch_only_when_it_is_used() -> None:
    assert "torch" not in _modules_after("import gkflux")


def test_the_console_starts_without_the_physics() -> None:
    heavy = {"torch", "dask", "ase", "blosc2", "scipy", "matplotlib", "numba", "gkflux"}
    assert not _modules_after("import stepson_cli.main") & heavy


def test_the_map_of_the_format_names_every_module() -> None:
    folder = Path(stepson.__file__).parent
    modules = {path.stem for path in folder.glob("[!_]*.py")}
    modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    named = set(re.findall(r"`([a-z]+)[/.`]", (folder / "README.md").read_text()))
    assert modules <= named
