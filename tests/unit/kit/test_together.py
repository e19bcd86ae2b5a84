"""Several writes become one statement whose parameters do not get mixed up."""

from typing import Any, cast

from services.kit.together import Together


class Listener:
    """Keeps what it is asked to execute."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        self.asked.append((sql, *arguments))
        return []


async def said(*parts: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    writes, conn = Together(), Listener()
    for sql, *arguments in parts:
        writes.add(sql, *arguments)
    await writes.run(cast(Any, conn))
    return conn.asked


async def test_nothing_is_not_said() -> None:
    assert await said() == []


async def test_one_write_stays_as_it_is() -> None:
    assert await said(("DELETE FROM a WHERE id = $1", 7)) == [("DELETE FROM a WHERE id = $1", 7)]


async def test_parameters_are_counted_through() -> None:
    numbers = tuple(range(1, 12))
    many = "INSERT INTO b VALUES (" + ", ".join(f"${n}" for n in numbers) + ")"
    [(sql, *arguments)] = await said(
        ("UPDATE a SET x = $2 WHERE id = $1", "id", "x"),
        (many, *numbers),
        ("DELETE FROM c WHERE id = $1", "last"),
    )
    assert arguments == ["id", "x", *numbers, "last"]
    shifted = "INSERT INTO b VALUES (" + ", ".join(f"${n + 2}" for n in numbers) + ")"
    assert sql == (
        "WITH part0 AS (\nUPDATE a SET x = $2 WHERE id = $1\n),\n"
        f"part1 AS (\n{shifted}\n)\nDELETE FROM c WHERE id = $14"
    )
