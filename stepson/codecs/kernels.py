"""When the loops of the codecs run compiled.

With numba at hand the tiles of `linear` and `bounded` go through `compiled`, three times as
fast as the same in numpy, and without the interpreter's lock, so that threads of one
process encode and decode side by side. The bytes and the values are the same either way.

Importing numba takes as long as numpy takes for some 100 MiB. So it is imported only when a
process has handled that much, unless somebody else has imported it already.
"""

import sys
from functools import cache
from types import ModuleType

from stepson.codecs.base import Array

__all__ = ["kernels", "load"]

PATIENCE = 1 << 28
"""Bytes that a process handles with numpy before it imports numba."""

_DTYPES = ("<f4", "<f8")
_handled = 0


def kernels(values: Array) -> ModuleType | None:
    """Return `compiled`, or None where numpy is to handle these values."""
    global _handled
    if values.dtype.str not in _DTYPES:
        return None
    _handled += values.nbytes
    return load() if _handled > PATIENCE or "numba" in sys.modules else None


@cache
def load() -> ModuleType | None:
    """Import `compiled`; None where numba is not installed or does not work."""
    try:
        import numba

        from stepson.codecs import compiled
    except Exception:  # numba refuses its cache, or this numpy, with errors of many kinds
        return None
    disabled: int = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    return None if disabled else compiled
