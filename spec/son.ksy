meta:
  id: son
  title: The .son container of molecular dynamics trajectories, version 1
  file-extension: son
  license: MIT
  endian: le
  ks-version: 0.9
doc-ref: son-1.md
doc: |
  The framing of `son-1.md`: MAGIC, then records one after the other. Maps are msgpack and left as bytes here, and so are payloads,
  except for that of COMMIT.

  Kaitai checks no crc32c and no sha256: this grammar tells where things are, not whether they are sound, nor whether
  a record belongs to the chain. The lengths of a torn record may cover records that were written behind it later; who wants to read a file
  follows `previous` from its last COMMIT (section 4).
seq:
  - id: magic
    type: magic
  - id: slots
    type: slot
    repeat: eos
types:
  magic:
    doc: Section 2.1, the first 64 bytes.
    seq:
      - id: signature
        contents: [0x89, 0x53, 0x4f, 0x4e, 0x0d, 0x0a, 0x1a, 0x0a]
      - id: major
        type: u4
        valid: 1
      - id: zeros
        size: 52
  slot:
    doc: What stands at a multiple of 64, a record, or 64 bytes (at the end of a file fewer) that no record starts with.
    seq:
      - id: record
        type: record
        if: start >= 0 and is_record
      - id: torn
        size: 'rest < 64 ? rest : 64'
        if: not is_record
    instances:
      start:
        value: _io.pos
        doc: Offset of this slot. Asked for before anything of it is read, and kept.
      rest:
        value: _io.size - start
      peek:
        pos: start
        type: prefix
        if: rest >= 64
      is_record:
        value: 'rest >= 64 and peek.magic == 0x4e4f53d5 and peek.len_record <= rest'
  record:
    doc: Section 2.2.
    seq:
      - id: prefix
        type: prefix
      - id: map
        size: prefix.len_map
        doc: One msgpack map; no bytes are an empty map.
      - id: payload
        size: prefix.len_payload
        type:
          switch-on: prefix.type
          cases:
            'record_type::commit': commit
      - id: padding
        size: prefix.len_record - 32 - prefix.len_map - prefix.len_payload
  prefix:
    seq:
      - id: magic
        type: u4
        doc: Bytes D5 53 4F 4E.
      - id: type
        type: u2
        enum: record_type
      - id: flags
        type: u2
      - id: len_map
        type: u4
      - id: len_payload
        type: u8
      - id: sequence
        type: u4
      - id: crc_map
        type: u4
        doc: crc32c of the map.
      - id: crc_prefix
        type: u4
        doc: crc32c of the 28 bytes in front.
    instances:
      len_record:
        value: (32 + len_map + len_payload + 63) / 64 * 64
        doc: With the zeros up to the next multiple of 64.
  commit:
    doc: Section 2.9; what follows the prefix. Offsets are from the start of the file, 0 is none.
    seq:
      - id: uuid
        size: 16
      - id: own
        type: u8
      - id: start
        type: u8
      - id: first
        type: u8
      - id: end
        type: u8
      - id: frames
        type: u8
      - id: commits
        type: u8
      - id: previous
        type: u8
      - id: index
        type: u8
      - id: scalars
        type: u8
      - id: checkpoint
        type: u8
      - id: before
        type: u8
      - id: schema
        type: u8
      - id: metadata
        type: u8
      - id: table
        type: u8
      - id: heads
        type: u4
      - id: payloads
        type: u4
      - id: link
        size: 32
      - id: zeros
        size: 52
      - id: crc
        type: u4
    instances:
      previous_record:
        io: _root._io
        pos: previous
        type: record
        if: previous != 0
      schema_record:
        io: _root._io
        pos: schema
        type: record
      metadata_record:
        io: _root._io
        pos: metadata
        type: record
      table_record:
        io: _root._io
        pos: table
        type: record
        if: table != 0
enums:
  record_type:
    1: header
    2: schema
    3: metadata
    4: block
    5: table
    6: commit
    7: checkpoint
    8: index
    9: scalars
    10: footer
    11: note
