"""Named queries: SQL stands in `.sql` files, in sections that begin with `-- name: load_state`."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

_SECTION = re.compile(r"^-- name: *(\S+) *$", re.MULTILINE)


class Queries(Mapping[str, str]):
    """The queries of one file. An unknown name raises KeyError with the known ones."""

    def __init__(self, source: str, texts: Mapping[str, str]) -> None:
        self._source = source
        self._texts = dict(texts)

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            known = ", ".join(sorted(self._texts))
            raise KeyError(f"{self._source} has no query {name!r}; it has: {known}")
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def load(package: str | None, file: str = "queries.sql") -> Queries:
    """Read the named queries of a package. Raises ValueError on a section that is not usable."""
    if not package:
        raise ValueError("queries belong to a package; pass __package__")
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    return parse(text, f"{package}/{file}")


def parse(text: str, source: str) -> Queries:
    """Cut a file into its sections; what stands before the first one must be comment."""
    head, *parts = _SECTION.split(text)
    if any(line.strip() and not line.startswith("--") for line in head.splitlines()):
        raise ValueError(f"{source}: SQL before the first '-- name:' line")
    texts: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in texts:
            raise ValueError(f"{source}: query {name!r} stands there twice")
        if not body.strip():
            raise ValueError(f"{source}: query {name!r} is empty")
        texts[name] = body.strip()
    return Queries(source, texts)
