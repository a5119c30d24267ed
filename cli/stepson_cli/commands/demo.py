"""`stepson demo`: the whole road on a shipped model, as a user would go it.

Every step is a real `stepson` process on the user's own terminal, so what is seen is what
anybody gets. One of them is ended with SIGKILL on purpose, as a power cut would end it,
and started again.
"""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepson_cli.terminal import Terminal, examples, with_terminal

if TYPE_CHECKING:
    from stepson_cli.demos import Demo

__all__ = ["command"]

NAMES = ("argon",)
KILL_AFTER = 0.4  # of the production: saved at least so far when the process is killed
LOOK_EVERY = 0.25  # s
SHOW_CURSOR = "\x1b[?25h"
SIGNALLED = 128  # exit statuses above it: stopped by a signal
KILLED = -1  # in place of an exit status: killed by us, on purpose


@click.command(
    name="demo",
    epilog=examples("stepson demo", "stepson demo argon -o /tmp/argon --steps 5000"),
)
@click.argument("name", type=click.Choice(NAMES), default="argon")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of everything; by default demo-NAME, here.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=100),
    metavar="N",
    help="Steps of the production; fewer are faster, with larger error bars.",
)
@with_terminal
def command(name: str, output: Path | None, steps: int | None, terminal: Terminal) -> int:
    """See it all: run, crash, go on, reduce, report.

    Thermal conductivity of liquid argon from a neural network potential, in about two
    minutes. The run is killed once on purpose and goes on from its last save. Given again
    after an interruption, the demonstration goes on too.
    """
    from stepson_cli.demos import DEMOS

    demo = DEMOS[name]
    folder = Path(f"demo-{name}") if output is None else output
    begin = time.monotonic()
    config = _write(demo, folder, demo.steps if steps is None else steps, terminal)
    for part in (_simulate, _reduce):
        status = part(demo, config, terminal)
        if status > SIGNALLED:
            terminal.say(f"the demonstration goes on with: {_again(name, output, steps)}")
        if status:
            return status
    _farewell(demo, folder, time.monotonic() - begin, terminal)
    return 0


def _again(name: str, output: Path | None, steps: int | None) -> str:
    """Spell the command that goes on: with the same options, or it would be another run."""
    options = (("-o", output), ("--steps", steps))
    given = [
        word for key, value in options if value is not None for word in (key, str(value))
    ]
    return shlex.join(["stepson", "demo", name, *given])


def _write(demo: "Demo", folder: Path, steps: int, terminal: Terminal) -> Path:
    """Write the input, or find it there from the last time.

    Raises:
        StepsonError: there is another input of this name.
    """
    from stepson.errors import StepsonError

    _heading(terminal, f"Input: {demo.title}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in demo.files(steps).items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise StepsonError(f"{path} exists and is different; remove {folder} or use -o")
        path.write_text(text, encoding="utf-8")
        terminal.say(f"  {path}")
    return folder / f"{demo.name}.toml"


def _simulate(demo: "Demo", config: Path, terminal: Terminal) -> int:
    """Run, kill, run again."""
    from gkflux.dynamics.config import load
    from stepson_cli.quantities import count

    stage = load(config).stage[-1]
    wanted = int(KILL_AFTER * stage.steps)
    watched = config.parent / "run" / stage.name
    words = ["run", str(config)]

    def due() -> bool:
        return saved_step(watched) >= wanted

    if due():
        _heading(terminal, "Molecular dynamics, going on")
        return _stepson(words, terminal)
    _heading(
        terminal, "Molecular dynamics: thermalise, then four replicas with their heat flux"
    )
    status = _stepson(words, terminal, kill_when=due)
    if status != KILLED:
        return status
    _heading(terminal, "That was SIGKILL, sent on purpose. The same command goes on")
    saved, steps = count(saved_step(watched)), count(stage.steps)
    terminal.say(f"  saved before it died: step {saved} of {steps}")
    return _stepson(words, terminal)


def _reduce(demo: "Demo", config: Path, terminal: Terminal) -> int:
    _heading(terminal, "Green-Kubo: from the heat flux to the thermal conductivity")
    return _stepson(["gk", str(config.parent / "run"), "-o", str(config.parent)], terminal)


def _farewell(demo: "Demo", folder: Path, seconds: float, terminal: Terminal) -> None:
    from stepson_cli.quantities import duration

    _heading(terminal, f"Done in {duration(seconds)}")
    terminal.say(f"For comparison: {demo.reference}")
    terminal.say("Next: look at the report, then make the configuration your own:")
    for path in (folder / "report.html", folder / f"{demo.name}.toml"):
        terminal.say(f"  {path}")


def saved_step(stage: Path) -> int:
    """The last step that every replica of a stage has saved; -1 before that.

    Args:
        stage: the folder of the stage, with a folder for each replica.
    """
    import stepson

    steps = []
    for path in sorted(stage.glob("*/md.son")):
        try:
            with stepson.open(path) as trajectory:
                steps.append(max(trajectory.checkpoint_steps, default=-1))
        except stepson.StepsonError:
            return -1  # being created at this moment
    return min(steps, default=-1)


def _stepson(
    words: list[str], terminal: Terminal, *, kill_when: Callable[[], bool] | None = None
) -> int:
    """Run a command of ours on this terminal, and kill it when a condition is met.

    Returns:
        its exit status as shells have it, or KILLED.
    """
    from rich.text import Text

    terminal.say(
        Text.assemble(("$ ", "quiet"), (f"stepson {' '.join(words)}", "command"), "\n")
    )
    quiet = ["-q"] if terminal.verbosity < 0 else []
    child = subprocess.Popen([sys.executable, "-m", "stepson_cli.main", *words, *quiet])
    while True:
        try:
            return _wait(child, terminal, kill_when)
        except KeyboardInterrupt:
            kill_when = None  # the child has had the same signal: it saves and stops


def _wait(
    child: "subprocess.Popen[bytes]",
    terminal: Terminal,
    kill_when: Callable[[], bool] | None,
) -> int:
    if kill_when is None:
        return _status(child.wait(), terminal)
    while child.poll() is None:
        if kill_when():
            time.sleep(4 * LOOK_EVERY)  # some steps more, which the crash will cost
            child.kill()
            status = _status(child.wait(), terminal)
            return KILLED if child.returncode == -signal.SIGKILL else status
        time.sleep(LOOK_EVERY)
    return _status(child.returncode, terminal)


def _status(returned: int, terminal: Terminal) -> int:
    """The exit status as shells have it; a terminal that a killed child left is mended."""
    if returned >= 0:
        return returned
    if terminal.live:
        terminal.err.file.write(SHOW_CURSOR)
    return SIGNALLED - returned


def _heading(terminal: Terminal, text: str) -> None:
    from rich.rule import Rule
    from rich.text import Text

    terminal.say("")
    terminal.say(Rule(Text(text, "title"), align="left", style="quiet"))
