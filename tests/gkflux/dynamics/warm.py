"""Imported by the server of killed children: what is slow happens before the forks."""

import tempfile
from pathlib import Path

from tests.gkflux.dynamics.runs import TWO_STAGES, perform

with tempfile.TemporaryDirectory() as folder:
    perform(Path(folder), TWO_STAGES)
