"""Tensors of anisotropic processes whose integrals are known exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

import gkflux
import stepson
from gkflux.conductivity import prefactor
from gkflux.correlate import Float
from gkflux.crystal import given
from gkflux.plan import Settings
from gkflux.spectrum import Spectrum, SpectrumAccumulator
from gkflux.symmetry import symmetry_of
from gkflux.tensor import class_mean, fit, plain_tensor, symmetric_tensor

T, V = 300.0, 1000.0
Z4 = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
X2 = np.diag([1.0, -1, -1])
Y2 = np.diag([-1.0, 1, -1])
DIAGONAL = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
CYCLE = np.roll(np.eye(3), 1, axis=0)


def group(*generators: Float) -> Float:
    """All products."""
    found = [np.eye(3)]
    for one in found:
        for other in generators:
            product = one @ other
            if not any(np.allclose(product, known) for known in found):
                found.append(product)
    return np.array(found)


GROUPS = {
    "cubic": group(Z4, X2, CYCLE),
    "tetragonal": group(Z4, X2),
    "orthorhombic": group(X2, Y2),
    "monoclinic": group(Y2, -np.eye(3)),
    "triclinic": group(-np.eye(3)),
}


def rotation(seed: int) -> Float:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    turned: Float = q * np.sign(np.linalg.det(q))
    return turned


def process(count: int, kappas: Float, taus: Float, generator: Any) -> Float:
    """Three independent exponential processes; their integrals are `kappas`, unit spacing.

    An AR(1) of coefficient a and noise of variance s² has S(0) = s² / (1 - a)², twice its
    integral.
    """
    a = np.exp(-1 / np.asarray(taus, float))
    noise = generator.normal(size=(count + 500, 3)) * np.sqrt(2 * np.asarray(kappas))
    columns = [lfilter([1 - a[i]], [1, -a[i]], noise[:, i])[500:] for i in range(3)]
    return np.stack(columns, axis=1)


def spectrum_of(flux: Float, length: int) -> Spectrum:
    sums = SpectrumAccumulator(length, flux.shape[1], 1.0)
    sums.update(flux)
    return sums.state()


CASES = [
    # group, integrals along the axes, correlation times
    ("cubic", [1.0, 1.0, 1.0], [5.0, 5.0, 5.0]),
    ("tetragonal", [1.0, 1.0, 4.0], [4.0, 4.0, 8.0]),
    ("orthorhombic", [1.0, 2.0, 4.0], [4.0, 5.0, 6.0]),
]


@pytest.mark.parametrize(
    ("name", "kappas", "taus", "seed"), [*((*one, None) for one in CASES), (*CASES[1], 5)]
)
def test_unbiased_covered_and_less_noisy_by_the_root_of_the_members(
    name: str, kappas: list[float], taus: list[float], seed: int | None
) -> None:
    """200 replicas of 8 segments, along x, y, z and in another orientation."""
    turn = np.eye(3) if seed is None else rotation(seed)
    truth = turn @ np.diag(kappas) @ turn.T
    symmetry = symmetry_of(turn @ GROUPS[name] @ turn.T)
    generator = np.random.default_rng(1)
    tensors, stds, means, mean_stds, plains = [], [], [], [], []
    replicas = 200
    for _ in range(replicas):
        flux = process(8 * 1024, np.array(kappas), np.array(taus), generator) @ turn.T
        spectrum = spectrum_of(flux, 1024)
        tensor, classes = symmetric_tensor(spectrum, symmetry, Settings(), 2.0 / 2)
        mean = class_mean(tensor, classes, symmetry)
        tensors.append(tensor.kappa)
        stds.append(tensor.std)
        means.append(mean.kappa)
        mean_stds.append(mean.std)
        # the same number of coefficients, every element for itself
        same = Settings(cutoff=int(classes[0].estimate.details["K"]))
        whole = fit(spectrum, range(3), 3, same)
        plains.append(plain_tensor(spectrum, 3, 1.0, whole=whole).kappa)
        np.testing.assert_allclose(
            symmetry.symmetrised(tensor.kappa), tensor.kappa, atol=1e-12
        )
    found, errors = np.array(tensors), np.array(stds)
    bias = (found.mean(axis=0) - truth) / (found.std(axis=0) + 1e-12)
    assert np.abs(bias[np.abs(truth) > 1e-9]).max() < 0.4
    inside = np.abs(found - truth) < 1.96 * errors
    for a in range(3):
        assert inside[:, a, a].mean() >= 0.9
    z = (np.array(means) - np.mean(kappas)) / np.array(mean_stds)
    assert (np.abs(z) < 1.96).mean() >= 0.9
    assert 0.7 < z.std() < 1.15  # the error is larger by the bias that may be left
    if seed is None:
        assert np.all(found[:, ~np.eye(3, dtype=bool)] == 0)  # forbidden: exactly zero
        alone, together = np.array(plains)[:, 0, 0], found[:, 0, 0]
        (first,) = (m for m in symmetry.classes if 0 in m)
        expected = 1 / np.sqrt(len(first))
        assert together.std() / alone.std() == pytest.approx(expected, rel=0.17)


@pytest.mark.parametrize("name", ["monoclinic", "triclinic"])
def test_free_off_diagonal_elements_are_found_and_correlate_the_mean(name: str) -> None:
    """Principal axes that the group does not fix: the components are not independent."""
    angle, kappas = np.pi / 4, np.array([1.0, 1.0, 15.0])
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    if name == "triclinic":
        turn = turn @ rotation(7)
    truth = turn @ np.diag(kappas) @ turn.T
    symmetry = symmetry_of(GROUPS[name])
    generator = np.random.default_rng(2)
    tensors, means, claims, alone = [], [], [], []
    for _ in range(150):
        flux = process(8 * 1024, kappas, np.full(3, 5.0), generator)
        spectrum = spectrum_of(flux @ turn.T, 1024)
        tensor, classes = symmetric_tensor(spectrum, symmetry, Settings(), 1.0)
        tensors.append(tensor.kappa)
        mean = class_mean(tensor, classes, symmetry)
        means.append(mean.kappa)
        claims.append(mean.std)
        alone.append(tensor.std.diagonal())
    found = np.array(tensors)
    error = found.std(axis=0) / np.sqrt(len(found))
    scatter = found.std(axis=0)
    assert np.all(np.abs(found.mean(axis=0) - truth) < 0.4 * scatter + 4 * error + 1e-12)
    # how much the mean of the diagonal scatters more than of independent elements
    more = np.std(means) / (np.sqrt(found.var(axis=0).trace()) / 3)
    claimed = np.sqrt(np.mean(np.square(claims)) / (np.mean(np.square(alone)) / 3))
    assert more > 1.15
    assert claimed == pytest.approx(more, rel=0.08)
    assert symmetry.pairs


def test_a_structure_makes_kappa_the_mean_of_its_classes() -> None:
    atoms = pytest.importorskip("ase.build").bulk("Mg", "hcp", a=3.2, c=5.2)
    pytest.importorskip("spglib")
    structure = gkflux.System.from_ase(atoms)
    flux = process(
        60_000, np.array([1.0, 1, 4]), np.array([4.0, 4, 8]), np.random.default_rng(0)
    )
    known: dict[str, Any] = {"timestep": 1.0, "volume": V, "temperature": T}
    found = gkflux.kappa(flux, structure=structure, **known)
    assert found.record.method == "symmetry"
    assert found.symmetry["space_group"] == "P6_3/mmc"
    assert [one["components"] for one in found.symmetry["classes"]] == ["xx = yy", "zz"]
    across, along = found.symmetry["classes"]
    assert across["l"] == 2 * along["l"]
    assert found.tensor[0, 0] == found.tensor[1, 1] == across["kappa"]
    assert found.tensor_std[0, 0] == across["std"]
    assert found.kappa == pytest.approx(np.trace(found.tensor) / 3)
    assert np.all(found.tensor[~np.eye(3, dtype=bool)] == 0)
    truth = prefactor(T, V) * 2.0
    assert abs(found.kappa - truth) < 4 * found.kappa_std
    check = {c.name: c for c in found.checks}["isotropy"]
    assert check.status == "pass"
    assert "xx = yy" in check.message
    plain = gkflux.kappa(flux, structure=structure, symmetry="none", **known)
    assert plain.symmetry == {"words": "not taken, as asked for"}
    assert plain.tensor[0, 0] != plain.tensor[1, 1]
    np.testing.assert_array_equal(found.symmetry["tensor_as_measured"], plain.tensor)
    assert "P6_3/mmc" in found.to_json()


def test_a_cubic_structure_takes_all_three_even_where_they_differ_and_warns() -> None:
    atoms = pytest.importorskip("ase.build").bulk("Ar", "fcc", a=5.3, cubic=True)
    pytest.importorskip("spglib")
    structure = gkflux.System.from_ase(atoms)
    known: dict[str, Any] = {"timestep": 1.0, "volume": V, "temperature": T}
    generator = np.random.default_rng(3)
    equal = process(40_000, np.ones(3), np.full(3, 5.0), generator)
    found = gkflux.kappa(equal, structure=structure, **known)
    without = gkflux.kappa(equal, **known)
    assert found.kappa == without.kappa
    assert found.kappa_std == without.kappa_std
    assert found.tensor[0, 0] == found.tensor[2, 2] == found.methods["cepstral"].kappa
    other = process(40_000, np.array([1.0, 1, 4]), np.full(3, 5.0), generator)
    wrong = gkflux.kappa(other, structure=structure, **known)
    assert wrong.record.method == "cepstral"
    check = {c.name: c for c in wrong.checks}["isotropy"]
    assert check.status == "warn"
    assert "another structure than was found" in check.message


def test_the_least_known_class_decides_whether_data_suffice() -> None:
    """One component along the axis: a third of the data that three equal ones are."""
    atoms = pytest.importorskip("ase.build").bulk("Mg", "hcp", a=3.2, c=5.2)
    pytest.importorskip("spglib")
    known: dict[str, Any] = {"timestep": 1.0, "volume": V, "temperature": T}
    flux = process(3000, np.ones(3), np.full(3, 5.0), np.random.default_rng(4))
    assert gkflux.kappa(flux, **known).status != "error too small"
    found = gkflux.kappa(flux, structure=gkflux.System.from_ase(atoms), **known)
    assert found.status == "error too small"


def write(path: Path, atoms: Any, flux: Float, *, noise: float, **about: Any) -> Path:
    """A trajectory whose atoms vibrate about their sites."""
    fields = [
        stepson.Field("heat_flux", "float64", (3,), "eV Å/fs", every=1),
        stepson.Field("temperature", "float64", (), "K", every=1),
        stepson.Field("positions", "float32", ("atom", 3), "Å", every=100),
    ]
    generator = np.random.default_rng(8)
    with stepson.create(
        path,
        fields=fields,
        numbers=atoms.numbers,
        cell=np.asarray(atoms.cell),
        pbc=True,
        metadata={"ensemble": "nve", "temperature": 300.0, **about},
        timestep=1.0,
    ) as out:
        for start in range(0, len(flux), 100):
            values = flux[start : start + 100]
            moves = generator.normal(scale=noise, size=(len(atoms), 3))
            first = {"heat_flux": values[0], "temperature": T}
            out.append(step=start, positions=atoms.positions + moves, **first)
            rest = {"heat_flux": values[1:], "temperature": np.full(len(values) - 1, T)}
            out.extend(steps=np.arange(start + 1, start + len(values)), **rest)
    return path


def test_the_structure_is_that_of_the_file(tmp_path: Path) -> None:
    """Mean positions, or the reference lattice, or none: said in words."""
    build = pytest.importorskip("ase.build")
    pytest.importorskip("spglib")
    crystal = build.bulk("Mg", "hcp", a=3.2, c=5.2).repeat((3, 3, 2))
    flux = process(
        4000, np.array([1.0, 1, 4]), np.array([3.0, 3, 3]), np.random.default_rng(6)
    )
    load = gkflux.GreenKubo.from_trajectories
    mean = load(write(tmp_path / "mean.son", crystal, flux, noise=0.1))
    assert mean.symmetry["space_group"] == "P6_3/mmc"
    assert mean.symmetry["structure"] == "mean positions of 32 frames"
    assert 0.05 < mean.symmetry["tolerance_A"] < 0.2  # six errors of 0.1 / sqrt(32)
    assert mean.tensor[0, 0] == mean.tensor[1, 1]
    assert "P6_3/mmc" in mean.report(tmp_path / "r.html").read_text()
    sites = np.asarray(crystal.positions)
    lattice = load(write(tmp_path / "lattice.son", crystal, flux, noise=0.5, lattice=sites))
    assert lattice.symmetry["structure"] == "the reference lattice"
    assert lattice.kappa == mean.kappa
    glass = crystal.copy()
    glass.positions += np.random.default_rng(1).normal(scale=0.7, size=(len(glass), 3))
    none = load(write(tmp_path / "glass.son", glass, flux, noise=0.1))
    assert "classes" not in none.symmetry
    assert none.symmetry["words"].startswith("none found (mean positions of 32 frames")
    asked = load(tmp_path / "mean.son", symmetry="none")
    assert asked.kappa == none.kappa


def test_damaged_positions_do_not_withhold_kappa(tmp_path: Path) -> None:
    build = pytest.importorskip("ase.build")
    pytest.importorskip("spglib")
    crystal = build.bulk("Mg", "hcp", a=3.2, c=5.2).repeat((8, 8, 8))
    flux = process(2000, np.ones(3), np.full(3, 3.0), np.random.default_rng(6))
    path = write(tmp_path / "md.son", crystal, flux, noise=0.1)
    with stepson.open(path) as trajectory:
        whole = trajectory["positions"][:].astype("float32").nbytes
    content = bytearray(path.read_bytes())
    assert whole > len(content) / 2  # most of the file are positions
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    found = gkflux.GreenKubo.from_trajectories(path)
    assert "classes" not in found.symmetry
    assert found.symmetry["words"].startswith("not looked for: ")
    assert np.isfinite(found.kappa)


def test_the_crystal_of_zirconia(shared_data: Path) -> None:
    """Monoclinic, unique axis y: three values, and xz."""
    pytest.importorskip("spglib")
    system = gkflux.System.read(shared_data / "zro2" / "300K-96-atoms-lattice.in")
    finding = given(system)
    assert finding.symmetry is not None
    assert finding.symmetry.group == "P2_1/c"
    assert finding.symmetry.pairs == ((0, 2),)
    assert finding.symmetry.aligned


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(gkflux.FluxError, match="unknown symmetry 'cubic': auto or none"):
        gkflux.kappa(
            np.ones((100, 3)), timestep=1.0, volume=V, temperature=T, symmetry="cubic"
        )
