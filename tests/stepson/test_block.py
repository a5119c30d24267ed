"""What a BLOCK says of its chunks is checked before any of it is believed."""

from pathlib import Path

import pytest

import stepson
from stepson.block import Block
from stepson.errors import FormatError
from stepson.scan import read_record
from tests.stepson.files import write


def test_chunks_that_overlap_hide_no_hole(tmp_path: Path) -> None:
    """Two that cover the same samples leave others to none, and the sum is right."""
    write(tmp_path / "md.son", [range(40)])
    with stepson.open(tmp_path / "md.son") as traj:
        unit = traj.reader.unit_of_frame(0)
        block = Block(read_record(traj.source, unit.offset), traj.schema)
        number = traj.schema.places["energy"]
        chunks = block.record.map["chunks"]
        (whole,) = [each for each in chunks if each.get("field") == number]
        half = {**whole, "count": whole["count"] // 2}
        chunks[chunks.index(whole)] = half
        chunks.append(dict(half))
        with pytest.raises(FormatError, match="list of chunks is not valid"):
            block.values(traj.source, "energy")
