"""Where the product's source lies, and which of its modules judge without touching the world."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("idp_certs", "evidence_service", "plugin_bridge")


def all_modules() -> list[Path]:
    """Every source file of the product."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def pure_modules() -> list[Path]:
    """Every source file that judges: values in, value out."""
    return sorted([*(ROOT / "idp_certs").glob("*.py"), *(ROOT / "evidence_service" / "access").glob("*.py")])


def name_of(path: Path) -> str:
    """The path from the root, as tests show it."""
    return path.relative_to(ROOT).as_posix()


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """The dotted name and line of everything that the file calls by name; `x().y()` yields `.y`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield _dotted(node.func), node.lineno


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""
