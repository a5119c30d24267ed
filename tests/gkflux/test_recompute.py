"""The flux of stored frames: what the run has computed itself, in any company, after any
kill; and what is refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.recompute import find_model, recompute_flux
from gkflux.recompute.files import choose, recompute_files, targets
from gkflux.recompute.source import open_source
from gkflux.recompute.spacing import find_spacing
from tests.gkflux.stored_frames import (
    ARGON,
    LENNARD_JONES,
    at_the_frames,
    column,
    copied,
    stored,
    system_of,
)

FIELDS = ("heat_flux", "energy", "energy_kinetic", "temperature")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def argon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network, float32; frames in float64, every 16 fs."""
    return stored(tmp_path_factory.mktemp("argon"))


@pytest.fixture(scope="module")
def crystal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the gauge of its lattice."""
    return stored(tmp_path_factory.mktemp("crystal"), lattice=True)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair potential, in float64 throughout."""
    return stored(tmp_path_factory.mktemp("exact"), LENNARD_JONES, steps=64, every=4)


def close(found: Any, expected: Any, tolerance: float) -> None:
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < tolerance, error


def test_it_is_the_flux_that_the_run_has_stored(
    argon: Path, exact: Path, tmp_path: Path
) -> None:
    for path, tolerance in ((argon, 1e-12), (exact, 1e-12)):
        out = tmp_path / f"{path.parents[2].name}.son"
        done = recompute_flux(path, out, force=path is exact)
        assert done.finished
        assert done.frames == done.computed == len(column(path, "positions"))
        for name in FIELDS:
            close(column(out, name), at_the_frames(path, name), tolerance)


def test_in_the_gauge_of_the_lattice_too(crystal: Path, tmp_path: Path) -> None:
    done = recompute_flux(crystal, tmp_path / "flux.son")
    assert done.gauge == "lattice"
    assert not done.convective
    found = column(tmp_path / "flux.son", "heat_flux")
    close(found, at_the_frames(crystal, "heat_flux"), 1e-12)
    # the lattice from its file, though the run has stored none
    bare = copied(crystal, tmp_path / "bare.son")
    plain = recompute_flux(bare, tmp_path / "plain.son")
    assert (plain.gauge, plain.convective) == ("none", True)
    fitted = crystal.parents[2] / "crystal.xyz"
    recompute_flux(bare, tmp_path / "fitted.son", lattice=fitted)
    close(column(tmp_path / "fitted.son", "heat_flux"), found, 1e-12)
    assert np.abs(column(tmp_path / "plain.son", "heat_flux") - found).max() > 1e-6


def test_positions_that_were_wrapped_give_the_same_flux(
    crystal: Path, tmp_path: Path
) -> None:
    """Each by a lattice vector of its own; the gauge needs them next to their sites."""
    cell = np.asarray(stepson.open(crystal).metadata["cell"])
    shifts = np.random.default_rng(0).integers(-1, 2, (101, 32, 3)) @ cell
    wrapped = copied(crystal, tmp_path / "wrapped.son", positions=lambda r: r + shifts)
    expected = at_the_frames(crystal, "heat_flux")
    fitted = crystal.parents[2] / "crystal.xyz"
    done = recompute_flux(wrapped, tmp_path / "lattice.son", lattice=fitted)
    assert done.hop is None
    close(column(tmp_path / "lattice.son", "heat_flux"), expected, 1e-5)


def test_frames_stored_in_float32_give_it_to_their_precision(
    argon: Path, tmp_path: Path
) -> None:
    short = copied(argon, tmp_path / "short.son", dtype="float32")
    recompute_flux(short, tmp_path / "flux.son")
    found, expected = (
        column(tmp_path / "flux.son", "heat_flux"),
        at_the_frames(argon, "heat_flux"),
    )
    close(found, expected, 1e-4)
    assert (found != expected).any()


@pytest.mark.parametrize("formulation", ["hardy", "unfolded"])
def test_slow_references_agree_with_it(
    exact: Path, tmp_path: Path, formulation: str
) -> None:
    few = copied(exact, tmp_path / "few.son", keep=slice(0, 3))
    recompute_flux(few, tmp_path / "flux.son", formulation=formulation, force=True)
    expected = at_the_frames(exact, "heat_flux")[:3]
    close(column(tmp_path / "flux.son", "heat_flux"), expected, 1e-10)


def test_the_local_form_is_named_and_warned_about(argon: Path, tmp_path: Path) -> None:
    layers = gkflux.load_potential("argon").layers
    if layers > 1:
        with pytest.warns(gkflux.GkfluxWarning, match="virial|messages"):
            recompute_flux(argon, tmp_path / "local.son", formulation="local")
    else:
        recompute_flux(argon, tmp_path / "local.son", formulation="local")
    with stepson.open(tmp_path / "local.son") as found:
        assert found.fields["heat_flux"].attributes["formulation"] == "local"
    system = system_of(argon)
    for convective in (True, False):
        out = tmp_path / f"{convective}.son"
        recompute_flux(argon, out, convective=convective)
        expected = gkflux.heat_flux(
            gkflux.load_potential("argon"), system, convective=convective
        )
        close(column(out, "heat_flux")[-1], expected, 1e-4)


def test_metadata_name_what_it_was_computed_from(crystal: Path, tmp_path: Path) -> None:
    recompute_flux(crystal, tmp_path / "flux.son")
    with stepson.open(crystal) as run, stepson.open(tmp_path / "flux.son") as found:
        told = found.metadata
        assert told["source"]["uuid"] == run.uuid
        assert told["source"]["digest"] == run.digest
        assert told["potential"]["sha256"] == run.metadata["potential"]["sha256"]
        about = dict(found.fields["heat_flux"].attributes)
        assert about == {
            "gauge": "lattice",
            "formulation": "semilocal",
            "convective": False,
        }
        assert told["degrees_of_freedom"] == 93
        np.testing.assert_array_equal(found["heat_flux"].steps, run["positions"].steps)
        assert found.verify(deep=True).ok


def test_green_kubo_takes_it_and_finds_what_it_finds_in_the_run(tmp_path: Path) -> None:
    path = stored(tmp_path / "long", lattice=True, steps=2000, every=2)
    recompute_flux(path, tmp_path / "flux.son")
    one, two = (
        gkflux.GreenKubo.from_trajectories(p) for p in (path, tmp_path / "flux.son")
    )
    assert two.kappa == one.kappa
    statuses = [{c.name: c.status for c in each.checks} for each in (one, two)]
    assert statuses[0] == statuses[1]
    with pytest.raises(gkflux.FluxError, match="fluxes of the same frames; give one"):
        gkflux.GreenKubo.from_trajectories([path, tmp_path / "flux.son"])


def test_an_atom_that_leaves_its_site_is_noticed(crystal: Path, tmp_path: Path) -> None:
    def moved(r: Any) -> Any:
        r = r.copy()
        r[50:, 7] += [2.7, 0.0, 0.0]  # half way to the next site
        return r

    path = copied(crystal, tmp_path / "md.son", positions=moved)
    fitted = crystal.parents[2] / "crystal.xyz"
    with pytest.warns(gkflux.GkfluxWarning, match="atom 7 has left its site .* step 200"):
        done = recompute_flux(path, tmp_path / "flux.son", lattice=fitted, force=True)
    assert done.hop == {"step": 200, "atom": 7}
    with stepson.open(tmp_path / "flux.son") as found:
        assert found.checkpoint()["hop"] == done.hop
    again = recompute_flux(path, tmp_path / "flux.son", lattice=fitted)
    assert (again.computed, again.hop) == (0, done.hop)


def test_of_a_mixture_mass_currents_are_stored_too(exact: Path, tmp_path: Path) -> None:
    numbers = [18] * 20 + [36] * 12
    mixture = copied(exact, tmp_path / "md.son", numbers=numbers)
    recompute_flux(mixture, tmp_path / "flux.son", force=True)
    with stepson.open(mixture) as trajectory:
        momenta = np.asarray(trajectory.metadata["masses"])[:, None] * np.asarray(
            trajectory["velocities"]
        )
    expected = np.stack([momenta[:, :20].sum(axis=1), momenta[:, 20:].sum(axis=1)], axis=1)
    found = column(tmp_path / "flux.son", "mass_currents")
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkflux.recompute.source.PIECE_FRAMES", (7, 7))


def test_any_number_of_workers_gives_the_same_bits(
    argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recompute_flux(argon, tmp_path / "1.son", threads=1)
    small_pieces(monkeypatch)
    recompute_flux(argon, tmp_path / "3.son", threads=3)
    recompute_flux(argon, tmp_path / "p.son", workers=2)
    for name in FIELDS:
        expected = column(tmp_path / "1.son", name)
        for other in ("3.son", "p.son"):
            np.testing.assert_array_equal(column(tmp_path / other, name), expected)


def test_float64_has_the_same_bits_with_any_number_of_threads(
    argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = copied(argon, tmp_path / "few.son", keep=slice(40, 50))
    recompute_flux(few, tmp_path / "1.son", threads=1, dtype="float64", force=True)
    small_pieces(monkeypatch)
    recompute_flux(few, tmp_path / "2.son", threads=2, dtype="float64", force=True)
    found = [column(tmp_path / name, "heat_flux") for name in ("1.son", "2.son")]
    np.testing.assert_array_equal(*found)
    close(found[0], at_the_frames(argon, "heat_flux")[40:50], 1e-3)


KILLED = """
import sys, time
from gkflux.recompute import flux, recompute_flux, source
source.PIECE_FRAMES = (7, 7)
write = flux.write
def slowly(*arguments):
    write(*arguments)
    time.sleep(0.1)
flux.write = slowly
recompute_flux(sys.argv[1], sys.argv[2], threads=2, commit_seconds=0)
"""


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_killed_one_goes_on_and_ends_with_the_same_samples(
    argon: Path, tmp_path: Path, kills: int
) -> None:
    recompute_flux(argon, tmp_path / "whole.son")
    out = tmp_path / "killed.son"
    for number in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(argon), str(out)], env=dict(os.environ)
        )
        goal = 80 * (number + 1) // kills
        while child.poll() is None and frames_in(out) < goal:
            time.sleep(0.001)
        assert child.poll() is None, "it was done before it was killed"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert 0 < frames_in(out) < 101
    assert recompute_flux(argon, out).finished
    with stepson.open(out) as found, stepson.open(tmp_path / "whole.son") as whole:
        assert found.sealed
        for name in (*FIELDS, "positions"):
            np.testing.assert_array_equal(found[name].steps, whole[name].steps)
            np.testing.assert_array_equal(found[name][:], whole[name][:])
        assert found.verify(deep=True).ok
    # once more: nothing to do, nothing touched
    content = out.read_bytes()
    assert recompute_flux(argon, out).computed == 0
    assert out.read_bytes() == content


def frames_in(path: Path) -> int:
    if not path.exists():
        return 0
    with stepson.open(path) as trajectory:
        return len(trajectory)


def test_it_goes_on_when_the_trajectory_has_grown(tmp_path: Path) -> None:
    path = stored(tmp_path / "run", steps=400)
    out = tmp_path / "flux.son"
    recompute_flux(path, out)
    text = (tmp_path / "run" / "run.toml").read_text()
    from gkflux.dynamics.config import parse
    from gkflux.dynamics.run import run

    run(parse(text, tmp_path / "run" / "run.toml"), steps=800)
    done = recompute_flux(path, out)
    assert (done.frames, done.computed) == (201, 100)
    close(column(out, "heat_flux"), at_the_frames(path, "heat_flux"), 1e-12)


def test_other_settings_are_refused_with_the_difference(
    argon: Path, crystal: Path, tmp_path: Path
) -> None:
    out = tmp_path / "flux.son"
    recompute_flux(argon, out)
    content = out.read_bytes()
    for options, what in (
        ({"convective": False}, "convective = True there, False now"),
        ({"formulation": "unfolded"}, "formulation = semilocal there, unfolded now"),
        ({"dtype": "float64"}, "potential.dtype = float32 there, float64 now"),
    ):
        with pytest.raises(gkflux.FluxError, match=what):
            recompute_flux(argon, out, **options)
    with pytest.raises(gkflux.FluxError, match=r"source = \w+ there"):
        recompute_flux(crystal, out, gauge="none")
    assert out.read_bytes() == content


def test_frames_too_far_apart_are_refused_with_the_spacing_needed(
    tmp_path: Path,
) -> None:
    """Argon at 30 K vibrates up to 2 THz, by ASE's phonons; 1/(2 f) is 250 fs."""
    path = stored(tmp_path / "run", steps=16_000, every=20)
    fine = find_spacing(open_source(str(path)), gkflux.load_potential("argon"))
    assert fine.from_velocities
    assert fine.fine
    assert 1.7 < fine.edge < 2.4
    coarse = copied(path, tmp_path / "coarse.son", keep=slice(None, None, 8))  # 640 fs
    with pytest.raises(
        gkflux.FluxError, match=r"640 fs apart.*needs a frame every 2\d\d fs.*--force"
    ):
        recompute_flux(coarse, tmp_path / "flux.son")
    assert not (tmp_path / "flux.son").exists()
    with pytest.warns(gkflux.GkfluxWarning, match="640 fs apart"):
        recompute_flux(coarse, tmp_path / "flux.son", force=True)
    expected = at_the_frames(path, "heat_flux")[::8]
    close(column(tmp_path / "flux.son", "heat_flux"), expected, 1e-12)


def test_a_vibration_that_is_folded_to_low_frequencies_is_found_out(
    argon: Path, tmp_path: Path
) -> None:
    """One frequency, sampled once a period, stands still: only the forces know."""
    potential = gkflux.load_potential("argon")
    path = stored(tmp_path / "run", steps=400, every=4)
    frozen = copied(
        path,
        tmp_path / "frozen.son",
        positions=lambda r: np.repeat(r[60:61], len(r), axis=0),
        velocities=lambda v: np.repeat(v[60:61], len(v), axis=0),
    )
    found = find_spacing(open_source(str(frozen)), potential)
    assert not found.from_velocities
    assert 1.7 < found.edge < 3.0


def test_replicas_and_continuations(tmp_path: Path) -> None:
    path = stored(tmp_path / "a", steps=400, every=4)
    with stepson.open(path) as trajectory:
        steps = np.asarray(trajectory["positions"].steps)
        told = trajectory.metadata
        r, v = (np.asarray(trajectory[n]) for n in ("positions", "velocities"))
        fields = [trajectory.fields[n] for n in ("positions", "velocities")]
        about: dict[str, Any] = {
            "numbers": np.asarray(told["numbers"]),
            "masses": np.asarray(told["masses"]),
            "cell": np.asarray(told["cell"]),
            "timestep": 4.0,
            "metadata": {"potential": dict(told["potential"]), "ensemble": "nve"},
        }
    (tmp_path / "parts").mkdir()
    first, second = tmp_path / "parts" / "z.son", tmp_path / "parts" / "b.son"
    with stepson.create(first, fields=fields, **about) as out:
        out.extend(steps=steps[:50], positions=r[:50], velocities=v[:50])
    with (
        stepson.open(first) as parent,
        stepson.create(second, fields=fields, parent=parent, **about) as out,
    ):
        out.extend(steps=steps[50:], positions=r[50:], velocities=v[50:])
    chosen, _ = choose([tmp_path / "parts"])
    places = targets(chosen, tmp_path / "out")
    assert [p.name for p in places] == ["b.son", "z.son"]
    done = list(
        recompute_files(zip(chosen, places, strict=True), model="argon", force=True)
    )
    assert [Path(each.source).name for each in done] == ["z.son", "b.son"]
    joined = stepson.open([each.target for each in done])
    close(joined["heat_flux"][:], at_the_frames(path, "heat_flux"), 1e-12)
    with stepson.open(done[1].target) as child:
        assert child.parent is not None
        assert child.parent["uuid"] == done[0].uuid


def test_the_model_of_the_run_is_found_by_its_sha256(argon: Path, tmp_path: Path) -> None:
    source = open_source(str(argon))
    assert Path(find_model(None, source.path, source.metadata).name).stem == "argon"
    assert (
        find_model(None, source.path, source.metadata, dtype="float64").dtype == "float64"
    )
    changed = {"potential": {"file": "argon.safetensors", "sha256": "0" * 64}}
    with pytest.raises(gkflux.FluxError, match=r"with argon\.safetensors.*another"):
        find_model(None, str(argon), changed)
    with pytest.raises(gkflux.FluxError, match="does not say with which model"):
        find_model(None, str(argon), {})
    config = argon.parents[2] / "run.toml"
    assert "argon" in find_model(config, str(argon), {}).name


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no velocities": (
        {"fields": ("positions",)},
        {},
        "no field velocities, only positions",
    ),
    "other atoms": (
        {"numbers": [14] * 32},
        {},
        "not trained on Si, first at atom 0",
    ),
    "no such model": ({}, {"model": "nix.torch"}, "no model file nix.torch"),
    "unknown formulation": ({}, {"formulation": "virial"}, "'virial' is none of semilocal"),
    "unknown gauge": ({}, {"gauge": "local"}, "gauge 'local' is none of none, lattice"),
    "no lattice": ({}, {"gauge": "lattice"}, "no reference lattice.*--lattice"),
    "no lattice file": ({}, {"lattice": "nix.xyz"}, "no structure file nix.xyz"),
    "lattice, no gauge": (
        {},
        {"gauge": "none", "lattice": "nix.xyz"},
        "--lattice has no meaning with --gauge none",
    ),
    "unit": (
        {"units": {"velocities": "furlong/fs"}},
        {},
        "velocities are stored in 'furlong/fs'",
    ),
    "npt": ({"metadata": {"ensemble": "npt"}}, {}, "the cell changes"),
    "cluster": ({"cell": None}, {}, "periodic in all directions.*no cell"),
    "one frame": (
        {"keep": slice(0, 2), "fields": ("positions",)},
        {},
        "no field velocities",
    ),
    "not finite": (
        {
            "velocities": lambda v: np.where(
                np.arange(len(v))[:, None, None] == 5, np.nan, v
            )
        },
        {},
        "velocities of step 20 are not finite",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(argon: Path, tmp_path: Path, case: str) -> None:
    changes, options, words = BAD[case]
    path = copied(argon, tmp_path / "bad.son", **changes)
    with pytest.raises(gkflux.FluxError, match=words) as caught:
        recompute_flux(path, tmp_path / "flux.son", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "flux.son").exists()


def test_places_that_cannot_be_written(argon: Path, tmp_path: Path) -> None:
    same = copied(argon, tmp_path / "md.son")
    content = same.read_bytes()
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    for target, words in (
        (same, "is the trajectory itself, which is never changed"),
        (other, "exists, is no heat flux of stored frames, and is not overwritten"),
        (argon, "exists, is no heat flux"),
        (tmp_path, "is a folder; name a file"),
        (other / "flux.son", "cannot be created: "),
    ):
        with pytest.raises(gkflux.FluxError, match=words):
            recompute_flux(same, target)
    assert same.read_bytes() == content
    assert other.read_text() == "mine"


def test_a_model_of_units_that_the_run_told_is_loaded_with_them() -> None:
    told = {
        "config": f"[potential]\n{ARGON}\nunits = {{ energy = 'Ha', length = 'Bohr' }}",
        "potential": {"kind": "argon"},
    }
    found = find_model(None, "md.son", told)
    assert (found.energy_unit, found.length_unit) == ("Ha", "Bohr")
