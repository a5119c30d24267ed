"""Codecs by name. A file names the codec of each of its chunks."""

from stepson.codecs.base import Codec, Encoded
from stepson.codecs.blosc import Blosc2
from stepson.codecs.bounded import Bounded
from stepson.codecs.delta import Delta
from stepson.codecs.linear import Linear
from stepson.codecs.raw import Raw
from stepson.errors import UnknownCodecError

__all__ = ["CODECS", "Codec", "Encoded", "codec_named"]

CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (Raw(), Blosc2(), Delta(), Linear(), Bounded())
}


def codec_named(name: str) -> Codec:
    """Return the codec of this name.

    Raises:
        UnknownCodecError: there is none.
    """
    if name not in CODECS:
        raise UnknownCodecError(name)
    return CODECS[name]
