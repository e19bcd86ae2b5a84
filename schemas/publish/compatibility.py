"""Whether two versions of a schema can live side by side (FULL_TRANSITIVE).

Everything follows from one question, `unreadable`: can a reader with this schema fail on, or
misread, what a writer with that schema may write? Facts and sealed parts are asked in both
directions, since old and new services run together and old facts are read for ever. Commands
are asked in one: partners may be older than we are, never newer.

In words, for facts: only optional fields come and go; no type, pattern or default changes; no
limit moves, in either direction; and no list of values grows or shrinks, because no reader has
a path for a value it does not know. A new value therefore needs a new version of the type.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

# Words for people, which decide nothing.
SILENT = frozenset({"$defs", "$ref", "$schema", "title", "description", "examples", "default"})
MARKS = frozenset({"x-kind", "x-type", "x-version"})
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
STRUCTURE = frozenset(
    {"type", "enum", "const", "anyOf", "items", "prefixItems", "properties", "required"}
)
OBJECT = frozenset({"additionalProperties", "patternProperties"})
COMPARED = SILENT | MARKS | STRUCTURE | OBJECT | frozenset(LOWER) | frozenset(UPPER)


@dataclass(frozen=True, slots=True)
class Break:
    """One reason why two versions cannot live side by side; `path` leads to the field."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or '(whole)'}: {self.reason}"


def breaks(old: Schema, new: Schema) -> list[Break]:
    """What the step from an earlier version to today's would break; empty when nothing."""
    if old.get("x-kind") != new.get("x-kind"):
        return [Break("", f"was {old.get('x-kind')}, is {new.get('x-kind')}")]
    found = [_said(item, "today's reader") for item in unreadable(writer=old, reader=new)]
    if new.get("x-kind") != "command":
        found += [_said(item, "an old reader") for item in unreadable(writer=new, reader=old)]
    return found


def breaks_with_all(earlier: Sequence[Schema], new: Schema) -> list[Break]:
    """The same against every earlier version: the last one alone would let a change creep."""
    found = [item for old in earlier for item in breaks(old, new)]
    return list(dict.fromkeys(found))


def unreadable(writer: Schema, reader: Schema) -> list[Break]:
    """Why the reader could fail on what the writer may write."""
    return list(_compare(_Node(writer, writer), _Node(reader, reader), ""))


def _said(item: Break, who: str) -> Break:
    return Break(item.path, f"{who}: {item.reason}")


@dataclass(frozen=True, slots=True)
class _Node:
    """A schema inside its document, where references are looked up."""

    document: Schema
    schema: Schema

    def at(self, schema: Schema) -> "_Node":
        """A part of the same document, with its reference followed."""
        while "$ref" in schema:
            name = schema["$ref"].removeprefix("#/$defs/")
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**self.document["$defs"][name], **beside}
        return _Node(self.document, schema)

    def variants(self) -> list["_Node"]:
        """What it may be: one of `anyOf`, or itself."""
        if "anyOf" not in self.schema:
            return [self]
        return [deep for part in self.schema["anyOf"] for deep in self.at(part).variants()]

    def values(self) -> list[Any] | None:
        """The only values it may have, when they are listed."""
        if "const" in self.schema:
            return [self.schema["const"]]
        return self.schema.get("enum")

    @property
    def type(self) -> str:
        """Its JSON type; empty when it may be anything."""
        return str(self.schema.get("type", ""))


def _compare(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    writer, reader = writer.at(writer.schema), reader.at(reader.schema)
    ways, accepted = writer.variants(), reader.variants()
    if len(ways) == len(accepted) == 1:
        yield from _compare_one(ways[0], accepted[0], path)
        return
    for way in ways:
        tried = [list(_compare_one(way, one, path)) for one in accepted]
        if all(tried):
            # The nearest variant tells most.
            yield from min(tried, key=len)


def _compare_one(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    if not _fits(writer.type, reader.type):
        yield Break(path, f"is written as {writer.type or 'anything'}, read as {reader.type}")
        return
    yield from _compare_values(writer, reader, path)
    yield from _compare_limits(writer.schema, reader.schema, path)
    yield from _compare_rest(writer.schema, reader.schema, path)
    if reader.type == "array":
        yield from _compare_items(writer, reader, path)
    if reader.type == "object":
        yield from _compare_fields(writer, reader, path)


def _fits(written: str, read: str) -> bool:
    return read in ("", written) or (written, read) == ("integer", "number")


def _compare_values(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    written, read = writer.values(), reader.values()
    if read is None:
        return
    if written is None:
        yield Break(path, f"may be any value, but only {_listed(read)} can be read")
        return
    unknown = [value for value in written if value not in read]
    if unknown:
        yield Break(path, f"does not know the value {_listed(unknown)}")


def _compare_limits(writer: Schema, reader: Schema, path: str) -> Iterator[Break]:
    if "enum" in writer or "const" in writer:
        return
    for words, tighter in ((LOWER, max), (UPPER, min)):
        for word in words:
            if word not in reader:
                continue
            written, read = writer.get(word), reader[word]
            if written is None or tighter(written, read) != written:
                yield Break(path, f"{word} {read} is tighter than what is written ({written})")


def _compare_rest(writer: Schema, reader: Schema, path: str) -> Iterator[Break]:
    """Patterns, formats and whatever else cannot be weighed has to be the same."""
    for word in sorted(set(reader) - COMPARED):
        if writer.get(word) != reader[word]:
            yield Break(path, f"{word} {reader[word]!r} was {writer.get(word)!r} when written")


def _compare_items(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    written, read = writer.schema.get("prefixItems", []), reader.schema.get("prefixItems", [])
    if len(written) != len(read):
        yield Break(path, f"has {len(written)} places when written, {len(read)} when read")
        return
    for index, (one, other) in enumerate(zip(written, read, strict=True)):
        yield from _compare(writer.at(one), reader.at(other), f"{path}[{index}]")
    if "items" in reader.schema:
        items = writer.schema.get("items", {})
        yield from _compare(writer.at(items), reader.at(reader.schema["items"]), f"{path}[]")


def _compare_fields(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    always = set(writer.schema.get("required", ()))
    for name in reader.schema.get("required", ()):
        if name not in always:
            yield Break(f"{path}.{name}", "is needed, but need not be written")
    known = reader.schema.get("properties", {})
    for name, field in writer.schema.get("properties", {}).items():
        where = f"{path}.{name}"
        if name in known:
            yield from _compare(writer.at(field), reader.at(known[name]), where)
            yield from _compare_defaults(writer.at(field), reader.at(known[name]), where)
        elif reader.schema.get("additionalProperties") is False:
            yield Break(where, "is refused as unknown")
    yield from _compare_others(writer, reader, path)


def _compare_defaults(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    """A field left out means its default: another default is another meaning of old data."""
    both = "default" in writer.schema and "default" in reader.schema
    if both and writer.schema["default"] != reader.schema["default"]:
        written, read = writer.schema["default"], reader.schema["default"]
        yield Break(path, f"left out means {written!r} when written, {read!r} when read")


def _compare_others(writer: _Node, reader: _Node, path: str) -> Iterator[Break]:
    """Maps: their keys have no names in the schema."""
    written, read = _maps(writer.schema), _maps(reader.schema)
    for pattern in written.keys() - read.keys():
        if read or reader.schema.get("additionalProperties") is False:
            yield Break(f"{path}{{{pattern}}}", "keys of this form cannot be read")
    for pattern in written.keys() & read.keys():
        there = f"{path}{{{pattern}}}"
        yield from _compare(writer.at(written[pattern]), reader.at(read[pattern]), there)


def _maps(schema: Schema) -> dict[str, Schema]:
    patterns = dict(schema.get("patternProperties", {}))
    others = schema.get("additionalProperties")
    if others is True:
        return {**patterns, "": {}}
    return {**patterns, "": others} if isinstance(others, dict) else patterns


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
