"""What the physics refuses, and what it warns about.

`FluxError` hangs in the tree of `stepson.errors`: the console turns it into one line in the
same place as every other mistake.
"""

from stepson.errors import StepsonError

__all__ = ["FluxError", "GkfluxWarning"]


class FluxError(StepsonError, ValueError):
    """The physics cannot be done as asked: untrained element, not finite, bad model ..."""


class GkfluxWarning(UserWarning):
    """The physics is done as asked, and the result may not be what was meant."""
