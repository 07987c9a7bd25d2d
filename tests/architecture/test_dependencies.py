"""The list of dependencies is true, and the pins say nothing about where they were made."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.sources import PACKAGES, ROOT, all_modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
GROUPS = PROJECT["dependency-groups"]
BUILD = [Requirement(text) for text in GROUPS["build"]]
DEVELOPMENT = [Requirement(text) for text in GROUPS["dev"] if isinstance(text, str)]
UNIMPORTED = {"tzdata"}
"""What the standard library needs: zoneinfo, where the system has no time zones."""
LOCKS = {
    "requirements.lock": RUNTIME,
    "requirements-build.lock": BUILD,
    "requirements-dev.lock": [*RUNTIME, *BUILD, *DEVELOPMENT],
}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    """Nothing is used that only comes along with something else, and nothing is installed for nothing."""
    own = {*PACKAGES, *sys.stdlib_module_names}
    distributions = packages_distributions()
    used = {
        canonicalize_name(distributions.get(name, [name])[0])
        for path in all_modules()
        for name in _imported(path)
        if name not in own
    }

    assert used | UNIMPORTED == {canonicalize_name(requirement.name) for requirement in RUNTIME}


@pytest.mark.parametrize(("lock", "requirements"), LOCKS.items(), ids=LOCKS)
def test_pins_satisfy_what_is_declared(lock: str, requirements: list[Requirement]) -> None:
    """Every declared dependency is pinned to a version that its declaration accepts (`make lock` does it)."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", text, re.MULTILINE)
    versions = {canonicalize_name(name): version for name, version in pins}

    assert [
        str(requirement)
        for requirement in requirements
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"))
    ] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_pins_name_no_index_and_no_path(lock: str) -> None:
    """The pins work on every machine: content is fixed by its hash, not by where it lay."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    pinned = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^ *#.*\n", "", text).strip())

    assert re.findall(r"://|file:|--index|--find-links|--extra", text) == []
    assert [entry for entry in pinned if "--hash=sha256:" not in entry] == []
