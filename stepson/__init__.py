"""Append-only, compressed, indexed trajectories that survive any crash."""

from stepson.errors import (
    ConversionError,
    DamagedError,
    FormatError,
    SchemaError,
    StepsonError,
    TornError,
    UnknownCodecError,
    VersionError,
    WriterError,
)
from stepson.schema import Field
from stepson.trajectory import Column, Frame, Trajectory, create, open
from stepson.writer import Writer

__all__ = [
    "Column",
    "ConversionError",
    "DamagedError",
    "Field",
    "FormatError",
    "Frame",
    "SchemaError",
    "StepsonError",
    "TornError",
    "Trajectory",
    "UnknownCodecError",
    "VersionError",
    "Writer",
    "WriterError",
    "create",
    "open",
]

__version__ = "0.1.0"
