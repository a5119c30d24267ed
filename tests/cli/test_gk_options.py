"""`stepson gk`: gauge, symmetry, currents, exports."""

import json
from pathlib import Path

import numpy as np
import pytest

from stepson_cli.main import main
from tests.gkflux.test_gauge_removal import solid, write


def test_options_reach_the_reduction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path / "md.son", solid(1, 6000)), tmp_path / "gk"
    words = ["gk", str(path), "-o", str(out), "--gauge", "virials", "--symmetry", "none"]
    assert main([*words, "--export", "stacie", "--export", "vibes", "-v"]) == 0
    text = capsys.readouterr().out
    assert "symmetry: not taken, as asked for" in text
    assert "times less noisy than in the other gauge" in " ".join(text.split())
    with np.load(out / "gk-stacie.npz") as archive:
        assert "amplitudes" in archive.files
    assert (out / "gk.nc").read_bytes()[:4] == b"CDF\x02"
    summary = json.loads((out / "gk.json").read_text())
    assert summary["settings"]["symmetry"] == "none"
    assert main(["gk", str(path), "-o", str(tmp_path / "plain"), "-q"]) == 0
    assert not (tmp_path / "plain" / "gk.nc").exists()


def test_what_a_file_does_not_have_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "md.son", solid(1, 400), first="none")
    assert main(["gk", str(path), "-o", str(tmp_path), "--gauge", "virials"]) == 1
    err = capsys.readouterr().err
    assert "no field virials" in err
    assert "Traceback" not in err
