"""What the code logs is on the allow-list: a refused field would be missing on the worst day."""

import ast
from pathlib import Path

import services
from services.kit.telemetry import LOG_FIELDS

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def logged_fields(source: str) -> set[tuple[str, int]]:
    """Field names of `log.info("…", field=…)` and `telemetry.bound(field=…)`, with their lines."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if not isinstance(owner, ast.Name):
            continue
        line = owner.id in ("log", "_log") and node.func.attr in LEVELS
        if line or (owner.id, node.func.attr) == ("telemetry", "bound"):
            found |= {(word.arg, node.lineno) for word in node.keywords if word.arg}
    return found


def test_the_scan_sees_fields() -> None:
    text = 'log.info("x", phone=1)\ntelemetry.bound(order_id=2)\nother.info("x", a=1)'
    assert logged_fields(text) == {("phone", 1), ("order_id", 2)}


def test_every_logged_field_is_allowed() -> None:
    root = Path(services.__path__[0])
    refused = [
        f"{path.relative_to(root)}:{line} {name}"
        for path in sorted(root.rglob("*.py"))
        for name, line in sorted(logged_fields(path.read_text(encoding="utf-8")))
        if name not in LOG_FIELDS
    ]
    assert refused == []
