"""Append-only, compressed, indexed trajectories that survive any crash."""

__version__ = "0.1.0"
