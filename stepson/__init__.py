"""Append-only, compressed, indexed trajectories that survive any crash."""

from stepson.column import Column
from stepson.errors import (
    ClosedError,
    ConversionError,
    DamagedError,
    DamageWarning,
    FormatError,
    RemoteError,
    SchemaError,
    SeriesWarning,
    StepsonError,
    TornError,
    UnknownCodecError,
    VersionError,
    WriterError,
)
from stepson.files import open, open_many
from stepson.frame import Frame
from stepson.recovery.recover import Recovery, recover
from stepson.schema import Field
from stepson.seams import Gap, Overlap
from stepson.series.ensemble import Ensemble
from stepson.trajectory import Trajectory
from stepson.writer import Writer
from stepson.writing import create

__all__ = [
    "ClosedError",
    "Column",
    "ConversionError",
    "DamageWarning",
    "DamagedError",
    "Ensemble",
    "Field",
    "FormatError",
    "Frame",
    "Gap",
    "Overlap",
    "Recovery",
    "RemoteError",
    "SchemaError",
    "SeriesWarning",
    "StepsonError",
    "TornError",
    "Trajectory",
    "UnknownCodecError",
    "VersionError",
    "Writer",
    "WriterError",
    "create",
    "open",
    "open_many",
    "recover",
]

__version__ = "0.1.0"
