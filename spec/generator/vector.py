"""A case: a file and what is expected of it, written to its folder."""

import base64
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

VARYING = ("torn_bytes", "sealed", "digest")


@dataclass
class Vector:
    """One folder."""

    name: str
    about: str
    spec: str
    file: object
    """A `File` as it is now, or bytes."""
    expect: dict | None = None
    """Default: what the `File` has kept account of, up to its end."""
    variants: list = field(default_factory=list)
    """(name, bytes, expectation or several of which any is right)."""

    def __post_init__(self):
        if self.expect is None and not self.variants:
            self.expect = self.file.account.read()
        given = isinstance(self.file, bytes)
        pieces = [(0, self.file)] if given else self.file.pieces
        self.pieces = [(at, bytes(data)) for at, data in pieces]

    @property
    def base(self):
        """The bytes of ``file.son``."""
        return self.pieces[0][1]

    def write(self, root: Path) -> None:
        """Write the folder anew."""
        folder = root / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if len(self.pieces) > 1:
            pieces = [[at, base64.b64encode(data).decode()] for at, data in self.pieces]
            recipe = {
                "size": self.pieces[-1][0] + len(self.pieces[-1][1]),
                "pieces": pieces,
            }
            (folder / "file.son.pieces").write_text(json.dumps(recipe, indent=1) + "\n")
        else:
            (folder / "file.son").write_bytes(self.base)
        about = {"about": self.about, "spec": self.spec}
        content = {**about, **(self._many() if self.variants else self.expect)}
        text = dumps(content)
        (folder / "expect.json").write_text(text + "\n", encoding="utf-8")

    def _many(self):
        """Expectations by name, each once, and the variants that refer to them."""
        names, rows = {}, []
        for name, data, expectation in self.variants:
            several = expectation if isinstance(expectation, list) else [expectation]
            used, extra = [], {k: several[0][k] for k in VARYING if k in several[0]}
            assert all({k: e[k] for k in VARYING if k in e} == extra for e in several)
            for each in several:
                common = json.dumps({k: v for k, v in each.items() if k not in VARYING})
                used.append(names.setdefault(common, f"{each['verdict']}-{len(names)}"))
            which = used[0] if len(used) == 1 else used
            rows.append(
                {"name": name, **difference(self.base, data), "expect": which, **extra}
            )
        return {
            "expectations": {name: json.loads(text) for text, name in names.items()},
            "variants": rows,
        }


def dumps(content):
    """JSON with one line for each variant and each key of an expectation."""
    lines = []
    for key, value in content.items():
        if key == "variants":
            rows = ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in value)
            text = f"[\n  {rows}\n ]"
        elif key in ("expectations", "fields"):
            rows = ",\n  ".join(
                f"{json.dumps(name)}: {json.dumps(each, ensure_ascii=False)}"
                for name, each in value.items()
            )
            text = f"{{\n  {rows}\n }}"
        else:
            text = json.dumps(value, ensure_ascii=False)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}"


def difference(base, data):
    """How to make `data` of `base`: patches, or cut and behind where lengths differ."""
    if data == base:
        return {}
    if len(data) == len(base):
        patches, at = [], 0
        while at < len(data):
            end = at
            while end < len(data) and data[end] != base[end]:
                end += 1
            if end > at:
                patches.append([at, data[at:end].hex()])
            at = end + 1
        return {"patch": patches}
    same = next(
        (i for i, (a, b) in enumerate(zip(base, data, strict=False)) if a != b),
        min(len(base), len(data)),
    )
    return (
        {"cut": same} if same == len(data) else {"cut": same, "behind": data[same:].hex()}
    )
