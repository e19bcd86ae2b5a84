"""Long columns as one parameter: the driver looks at every element of a list nine times."""

import re
from collections.abc import Iterable

_TO_QUOTE = re.compile(r'[{}"\\\s]')


def column(words: Iterable[str | None]) -> str:
    """An array as the database reads it from text, for `$1::text::uuid[]`; None is NULL.

    Raises ValueError for a word that would have to be quoted: this is for ids, codes and numbers.
    """
    listed = ["NULL" if word is None else word for word in words]
    text = ",".join(listed)
    if _TO_QUOTE.search(text) or text.count(",") != max(len(listed) - 1, 0) or "" in listed:
        raise ValueError("a word of this column would have to be quoted")
    return "{" + text + "}"
