"""What is wrong in a file, as facts: where, how much, whose samples."""

from dataclasses import asdict, dataclass
from typing import Any

from stepson.errors import FormatError, RemoteError, StepsonError

__all__ = ["Damage"]


@dataclass(frozen=True)
class Damage:
    """One thing that does not verify."""

    what: str
    """In words."""
    offset: int | None
    """Byte where it starts."""
    bytes: int = 0
    """Affected; 0: not known."""
    field: str | None = None
    """Whose samples; None: of all fields, or of none."""
    first_step: int | None = None
    """Affected; None: none, or not known."""
    last_step: int | None = None
    expected: int | None = None
    """Checksum."""
    actual: int | None = None
    file: str | None = None
    """Where several are one trajectory."""

    @classmethod
    def of(cls, error: StepsonError, **more: Any) -> "Damage":
        """The facts of an error; those given in `more` replace what is missing there.

        Raises:
            RemoteError: `error` itself, if it is one: what cannot be had is not damaged.
        """
        if isinstance(error, RemoteError):
            raise error
        steps = getattr(error, "steps", None) or (None, None)
        what = error.what if isinstance(error, FormatError) else str(error)
        found = {
            "what": what,
            "offset": getattr(error, "offset", None),
            "field": getattr(error, "field", None),
            "first_step": steps[0],
            "last_step": steps[1],
            "expected": getattr(error, "expected", None),
            "actual": getattr(error, "actual", None),
        }
        given = {key: value for key, value in more.items() if found.get(key) is None}
        return cls(**{**found, **given})

    def to_map(self) -> dict[str, Any]:
        """As plain numbers and text."""
        return asdict(self)

    @property
    def steps(self) -> int:
        """How many steps it spans."""
        if self.first_step is None or self.last_step is None:
            return 0
        return self.last_step - self.first_step + 1

    def __str__(self) -> str:
        words = [self.what]
        if self.field is not None:
            words.append(f"field {self.field}")
        if self.first_step is not None:
            words.append(f"steps {self.first_step} to {self.last_step}")
        if self.offset is not None:
            size = f" ({self.bytes} bytes)" if self.bytes else ""
            words.append(f"at byte {self.offset}{size}")
        if self.expected is not None and self.actual is not None:
            words.append(f"checksum {self.actual:08x} instead of {self.expected:08x}")
        return ("" if self.file is None else f"{self.file}: ") + ", ".join(words)
