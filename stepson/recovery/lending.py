"""Whether the SCHEMA of another file is that of a file whose own is damaged.

With fields of another shape, type or order, sound bytes would become wrong numbers. What
blocks say of themselves, and what is still readable of the damaged SCHEMA, must agree.
"""

import re
from itertools import islice

import numpy as np

from stepson.block import Block
from stepson.errors import FormatError
from stepson.records import MAGIC_SIZE, MAP_LIMIT, RECORD_MAGIC, RecordType
from stepson.recovery.salvage import check_fit
from stepson.resync import pieces
from stepson.scan import Record, read_record
from stepson.schema import Schema
from stepson.source import Source

__all__ = ["check_lender"]

LOOK = 16
"""Blocks that are compared; of a damaged file some may be of another one."""
KEY = re.compile(rb"\xa4name([\xa1-\xbf])|\xa5dtype([\xa4-\xa7])")
WORD = re.compile(rb"[a-zA-Z_]\w*")
SLIPS = 2
"""Letters of a name that damage may have changed."""
KEYS = ("min", "max")
SIGN = RECORD_MAGIC.to_bytes(4, "little")


def check_lender(source: Source, schema: Schema, name: str) -> None:
    """Compare fields that are borrowed with what is known of the file.

    Args:
        source: of the damaged file.
        schema: of the other one.
        name: of the other one, for messages.

    Raises:
        FormatError: they are not those of this file.
    """
    found = pieces(source, MAGIC_SIZE, source.size)
    blocks = (
        each
        for each in found
        if isinstance(each, Record) and each.prefix.type == RecordType.BLOCK
    )
    looked = [_fits(each, schema) for each in islice(blocks, LOOK)]
    if looked.count(False) > looked.count(True):
        raise FormatError(
            f"{name} has other fields or another number of atoms: the blocks do not fit "
            "them; --like needs a file with the same ones, such as another replica"
        )
    other = _other_word(source, schema)
    if other is not None:
        raise FormatError(
            f"{name} has other fields: what is readable of SCHEMA has {other!r}; --like "
            "needs a file with the same ones, such as another replica"
        )


def _fits(record: Record, schema: Schema) -> bool:
    """Whether a block can be one of these fields."""
    try:
        block = Block(record, schema)
        check_fit(block)
    except FormatError:
        return False
    for number, chunks in block.chunks.items():
        if number is None:
            continue
        real = np.dtype(schema.fields[number].dtype).kind == "f"
        bounds = [each.info[key] for each in chunks for key in KEYS if key in each.info]
        if any(isinstance(each, float) != real for each in bounds):
            return False
    return True


def _other_word(source: Source, schema: Schema) -> str | None:
    """A name or dtype in what is left of SCHEMA that these fields do not have."""
    try:
        start = read_record(source, MAGIC_SIZE, RecordType.HEADER).end
    except FormatError:
        start = MAGIC_SIZE
    data = source.read_at(start, MAP_LIMIT)
    stop = data.find(SIGN, len(SIGN))
    known = {each.name for each in schema.fields} | {each.dtype for each in schema.fields}
    data = data[: stop if stop > 0 else None]
    for match in KEY.finditer(data):
        length = data[match.end() - 1] & 31
        word = WORD.fullmatch(data[match.end() : match.end() + length])
        text = "" if word is None else word.group().decode("ascii")
        if text and not any(_near(text, each) for each in known):
            return text
    return None


def _near(word: str, known: str) -> bool:
    """Whether two words are the same, but for what damage may have changed."""
    changed = sum(a != b for a, b in zip(word, known, strict=False))
    if len(word) != len(known):
        return changed == 0  # the length itself may be damaged
    return changed <= SLIPS
