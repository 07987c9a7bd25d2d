"""A fresh database for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from tests.adapters.given import url_of


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database with our schema."""
    opened = open_database(url_of(tmp_path / "fas-evidence.db"))
    yield opened
    opened.dispose()


@pytest.fixture
def store(engine: Engine) -> ConfigStore:
    """The configuration in that database."""
    return ConfigStore(engine)
