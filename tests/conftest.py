"""Fixtures that every part shares."""

import os
import signal
from pathlib import Path

import pytest


def _data_folder() -> Path | None:
    candidates = [Path(__file__).resolve().parents[2] / "shared" / "data"]
    if "STEPSON_DATA" in os.environ:
        candidates.insert(0, Path(os.environ["STEPSON_DATA"]))
    return next((path for path in candidates if path.is_dir()), None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input by others, which is not part of the project."""
    folder = _data_folder()
    if folder is None:
        pytest.skip(
            "no validation data: set STEPSON_DATA to the folder that holds zro2/, sportran/"
        )
    return folder


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # of a shell that started pytest in the background; children would inherit it, and the
    # tests of Ctrl-C would wait for ever
    signal.signal(signal.SIGINT, signal.default_int_handler)
