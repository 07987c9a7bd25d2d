"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.given import Place, written


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A working directory with valid files, whose database is its own; nothing is inherited from the environment."""
    for name in (*(name for name in os.environ if name.startswith("FAS_EVIDENCE_")), "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAS_EVIDENCE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return written(tmp_path)
