"""Foreign text made harmless for a line that a person or a log pipeline reads."""

from __future__ import annotations


def shown(text: str, limit: int = 200) -> str:
    r"""`text` on one line: unprintable characters as `\uXXXX`, cut to `limit` characters with the rest counted."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else _escaped(char) for char in cut)
    return cut if len(text) <= limit else f"{cut}...(+{len(text) - limit})"


def _escaped(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
