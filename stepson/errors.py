"""Every error that stepson raises on purpose.

::

    StepsonError
    ├── FormatError(ValueError)     the bytes are wrong: .offset
    │   ├── DamagedError            a checksum fails: .field .steps .expected .actual
    │   ├── TornError               only when strictness was asked for: .valid_until
    │   └── VersionError            .found .supported .feature
    ├── SchemaError(ValueError)     the caller's data do not fit: .field .expected .got
    ├── UnknownCodecError(LookupError)
    ├── ClosedError                 read after close()
    ├── RemoteError                 a URL that cannot be read: .url .offset
    ├── WriterError                 out of order, closed, locked elsewhere, disk full
    └── ConversionError             what cannot be carried over, unit unknown

A `DamageWarning` says that a redundant copy was damaged and what it was made of was read
instead: nothing is lost, and the disk should be looked at. A `SeriesWarning` says that
files that were opened together do not continue one another exactly.

``gkflux`` adds ``FluxError``. Two questions, two branches: is my file bad (`FormatError`),
or did I misuse it (`SchemaError`, `WriterError`)? A torn tail is not an error: readers show
what was committed before it.

A constructor takes facts, keeps them as attributes, and writes the message: what, where,
what to do next, in one line. The console prints that line and nothing else.
"""

__all__ = [
    "UNREADABLE",
    "ClosedError",
    "ConversionError",
    "DamageWarning",
    "DamagedError",
    "FormatError",
    "RemoteError",
    "SchemaError",
    "SeriesWarning",
    "StepsonError",
    "TornError",
    "UnknownCodecError",
    "VersionError",
    "WriterError",
]


class StepsonError(Exception):
    """Anything that stepson refuses, with a message for the person at the terminal."""


class FormatError(StepsonError, ValueError):
    """The bytes of a file are not what the specification demands."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        self.what = message
        self.offset = offset
        super().__init__(message if offset is None else f"{message} (at byte {offset})")


class DamagedError(FormatError):
    """A checksum of committed data fails: disk, memory or transfer changed the bytes."""

    def __init__(
        self,
        what: str,
        *,
        offset: int,
        field: str | None = None,
        steps: tuple[int, int] | None = None,
        expected: int | None = None,
        actual: int | None = None,
        advice: str = "everything else stays readable, `stepson verify` lists what is lost",
    ) -> None:
        self.field = field
        self.steps = steps
        self.expected = expected
        self.actual = actual
        where = "" if field is None else f" of field {field!r}"
        when = "" if steps is None else f", steps {steps[0]} to {steps[1]}"
        sums = (
            ""
            if expected is None or actual is None
            else f": checksum {actual:08x} instead of {expected:08x}"
        )
        super().__init__(
            f"{what}{where}{when} is damaged{sums}; {advice}",
            offset=offset,
        )
        self.what = f"{what} is damaged"


class TornError(FormatError):
    """The file ends in an incomplete transaction, and strictness was asked for."""

    def __init__(self, *, valid_until: int, size: int) -> None:
        self.valid_until = valid_until
        super().__init__(
            f"the last {size - valid_until} bytes were never committed; open without "
            "`strict`, or open for append to go on after them",
            offset=valid_until,
        )


class VersionError(FormatError):
    """The file needs a feature or a major version that this reader does not have."""

    def __init__(self, *, found: int, supported: int, feature: str | None = None) -> None:
        self.found = found
        self.supported = supported
        self.feature = feature
        need = f"format version {found}" if feature is None else f"the feature {feature}"
        super().__init__(
            f"the file needs {need}, this stepson reads version {supported}; upgrade it"
        )


class SchemaError(StepsonError, ValueError):
    """The caller's data do not fit the fields of the file."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        expected: object = None,
        got: object = None,
    ) -> None:
        self.field = field
        self.expected = expected
        self.got = got
        super().__init__(message)


class UnknownCodecError(StepsonError, LookupError):
    """A chunk was written with a codec that is not registered here."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        super().__init__(f"codec {codec!r} is not known here; upgrade stepson")


UNREADABLE = (FormatError, UnknownCodecError)
"""What bytes are that cannot be read here. A `RemoteError` says nothing of the bytes."""


class ClosedError(StepsonError):
    """A trajectory was read after it had been closed."""

    def __init__(self) -> None:
        super().__init__("the trajectory was closed, so nothing can be read; open it again")


class RemoteError(StepsonError):
    """A URL cannot be read: network, server, access; the file itself is not to blame."""

    def __init__(self, url: str, message: str, *, offset: int | None = None) -> None:
        self.url = url
        self.offset = offset
        where = "" if offset is None else f" (at byte {offset})"
        line = " ".join(message.split())  # that of a library may have several
        super().__init__(f"{url}: {line}{where}")


class WriterError(StepsonError):
    """Writing is impossible: out of order, closed, locked by another process, disk full."""


class ConversionError(StepsonError):
    """Something cannot be carried over between formats, or a unit is not known."""


class DamageWarning(UserWarning):
    """An INDEX or SCALARS is damaged; the same data were read from where they came from."""


class SeriesWarning(UserWarning):
    """Files that were opened together have gaps or overlaps, or do not belong together."""
