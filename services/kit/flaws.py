"""What pydantic found wrong, as a field's name and words."""

from pydantic import ValidationError


def first_flaw(error: ValidationError) -> tuple[str, str]:
    """The path of the first wrong field, `a.0.b`, and what is wrong; without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
