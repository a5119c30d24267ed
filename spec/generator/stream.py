"""The bytes of a file: one record behind the other, and what a kill leaves between them."""

import struct

from crc32c import crc32c

from spec.generator.records import COMMIT, pack, prefix


class Stream:
    """Bytes so far, where each record is, and the checksums of the transaction at work."""

    def __init__(self, uuid):
        self.uuid = uuid
        self.pieces, self.places = [(0, bytearray())], []
        self.sequence = self.start = self.heads = self.payloads = 0

    @property
    def size(self):
        """Bytes so far, holes included."""
        return self.pieces[-1][0] + len(self.pieces[-1][1])

    @property
    def data(self):
        """All bytes."""
        assert len(self.pieces) == 1
        return bytes(self.pieces[0][1])

    def write(self, data):
        """Bytes, as they are."""
        self.pieces[-1][1].extend(data)

    def hole(self, length):
        """Zeros that are not stored."""
        self.pieces.append((self.size + length, bytearray()))

    def tear(self, data):
        """What a killed writer left; the next one fills up to a multiple of 64."""
        self.write(data)

    def pad(self):
        """Zeros up to the next multiple of 64."""
        self.write(bytes(-self.size % 64))

    def begin(self):
        """A new transaction starts here."""
        self.start, self.heads, self.payloads = self.size, 0, 0

    def record(self, kind, content, body=b"", **lies):
        """A record; returns its offset."""
        packed, offset = pack(content), self.size
        head = prefix(kind, packed, len(body), self.sequence, **lies) + packed
        self.write(head + body)
        self.pad()
        self.places.append((offset, kind, len(head), len(body), self.size))
        self.heads, self.payloads = crc32c(head, self.heads), crc32c(body, self.payloads)
        self.sequence += 1
        return offset

    def commit_record(self, numbers, chain, lies):
        """A COMMIT; returns its 256 bytes.

        Args:
            numbers: 14, in their order.
            chain: the digest of the COMMIT before.
            lies: others instead of ``heads``, ``payloads``, ``chain``, ``zeros``.
        """
        sums = {"heads": self.heads, "payloads": self.payloads}
        parts = {**sums, "chain": chain, "zeros": bytes(52), **lies}
        body = prefix(COMMIT, b"", 224, self.sequence) + self.uuid
        body += struct.pack("<14Q", *numbers)
        body += struct.pack("<II32s52s", *parts.values())
        data = body + struct.pack("<I", crc32c(body))
        offset = self.size
        self.write(data)
        self.places.append((offset, COMMIT, len(data), 0, self.size))
        self.sequence += 1
        return data
