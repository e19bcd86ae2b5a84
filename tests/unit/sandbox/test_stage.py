"""The order ids that hospitals have heard of, with their own numbers."""

from uuid import UUID

from services.sandbox.stage import Book

FIRST, OTHER = UUID(int=1), UUID(int=2)


def test_the_end_of_an_order_may_be_heard_of_before_its_number() -> None:
    book = Book(lambda _number: None)
    book.learn(FIRST, "chaos-1")
    assert book.known([FIRST, OTHER]) == {"chaos-1"}
    book.learn(OTHER, "chaos-2")
    assert book.known([FIRST, OTHER]) == {"chaos-1", "chaos-2"}
