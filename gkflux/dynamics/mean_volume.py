"""The mean volume of a stage at constant pressure, from its files.

The first half is left to equilibration. The error is that of the means of `BLOCKS` blocks
of every replica: too small where the volume needs longer than a block to forget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stepson import open as open_son

__all__ = ["MeanVolume", "mean_volume"]

BLOCKS = 8


@dataclass(frozen=True)
class MeanVolume:
    """A mean volume.

    Attributes:
        volume: Å³.
        error: of the mean, Å³; nan where there are too few samples.
        first: step from which on samples count.
        samples: of all replicas.
    """

    volume: float
    error: float
    first: int
    samples: int

    @property
    def facts(self) -> dict[str, float | int]:
        """As METADATA and NOTE have it."""
        return {
            "volume": self.volume,
            "error": self.error,
            "first_step": self.first,
            "samples": self.samples,
        }

    def __str__(self) -> str:
        error = f" ± {self.error:.2f}" if np.isfinite(self.error) else ""
        return f"{self.volume:.2f}{error} Å³"


def mean_volume(files: Sequence[Path], steps: int) -> MeanVolume:
    """Average the volume over the second half of a stage, and over its replicas.

    Where nothing was stored in the second half, the last sample of all stands for it.

    Args:
        files: of the stage; what is committed counts.
        steps: of the stage.
    """
    first, totals, blocks = steps - steps // 2, [], []
    for path in files:
        with open_son(path) as trajectory:
            column = trajectory["volume"]
            times = np.asarray(column.steps[:], dtype=np.int64)
            start = min(int(np.searchsorted(times, first)), len(times) - 1)
            values = np.asarray(column[start:], np.float64)
        totals.append(values)
        if len(values) >= 2 * BLOCKS:
            blocks += [float(part.mean()) for part in np.array_split(values, BLOCKS)]
    everything = np.concatenate(totals)
    error = float(np.std(blocks, ddof=1) / len(blocks) ** 0.5) if blocks else float("nan")
    return MeanVolume(float(everything.mean()), error, first, len(everything))
