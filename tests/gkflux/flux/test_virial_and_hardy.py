"""The example that answers whether virial and Hardy are equivalent, made short."""

from pathlib import Path

import numpy as np
import pytest

from examples.virial_and_hardy import Answer, kappas, main, sentence
from gkflux.green_kubo import prefactor


def test_kappa_of_noise_with_a_memory() -> None:
    """Integral of sigma² exp(-t / tau), in blocks, for a flux that is known."""
    rng, spacing, tau = np.random.default_rng(0), 100.0, 1000.0
    keep = np.exp(-spacing / tau)
    flux = np.empty((4, 60_000, 3))
    flux[:, 0] = rng.normal(size=(4, 3))
    for k in range(1, flux.shape[1]):
        noise = rng.normal(size=(4, 3))
        flux[:, k] = keep * flux[:, k - 1] + np.sqrt(1 - keep**2) * noise
    scale = prefactor(300.0, 1000.0)
    found = kappas(flux, spacing, scale)
    assert len(found) == 4 * (60_000 // 240)
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert error < 0.02 * found.mean()
    assert found.mean() == pytest.approx(scale * tau, abs=3 * error)


def test_the_sentence_says_what_the_numbers_say() -> None:
    one = Answer(1, 1e-15, 1e-15, 0.0, (0.5, 0.05), 0.5, (0.0, 0.0))
    same = Answer(2, 1e-15, 0.02, 0.02, (0.5, 0.05), 0.5, (0.001, 0.001))
    other = same._replace(difference=(-0.05, 0.001))
    assert "do not resolve in kappa" in sentence([one, same])
    assert "kappa changes by -10.0 ± 0.2 %" in sentence([one, other])
    assert "one function" in sentence([one, other])
    assert "one function" not in sentence([other])


@pytest.mark.slow
def test_short(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--updates", "200", "--replicas", "2", "--picoseconds", "12"])
    lines = capsys.readouterr().out.splitlines()
    split = [line.split() for line in lines if "±" in line]
    rows = {words[0]: words for words in split if words[0].isdigit()}
    assert list(rows) == ["1", "2", "3"]
    for layers, row in rows.items():
        exact, virial, rms = (
            float(word.rstrip("%")) / (100 if "%" in word else 1) for word in row[1:4]
        )
        assert exact < 1e-12
        if layers == "1":
            assert virial < 1e-12
            assert rms == 0
            assert " ".join(row[-4:]) == "+0.00 ± 0.00 %"
        else:
            assert virial > 1e-3
            assert rms > 1e-3
    assert any(line.startswith("Answer: with one layer they are one") for line in lines)


@pytest.mark.slow
def test_a_model_of_your_own(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "zro2"
    options = [
        *("--model", str(folder / "model_n2.torch")),
        *("--structure", str(folder / "300K-96-atoms.in")),
        *("--lattice", str(folder / "300K-96-atoms-lattice.in")),
        *("--small", str(folder / "primitive.in")),
        *("--replicas", "2", "--picoseconds", "9"),
        *("--temperature", "300", "--timestep", "4"),
    ]
    main(options)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "±" in line]
    assert row.split()[0] == "2"
    assert row.split()[2].endswith("%")
    assert float(row.split()[2].rstrip("%")) > 10


def test_a_model_needs_its_crystal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--model", "model_n2.torch"])
    assert "--model needs --structure and --lattice" in capsys.readouterr().err
