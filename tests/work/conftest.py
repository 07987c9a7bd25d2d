"""A site for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.work.given import Site, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A database, a server of metadata and a worker with a clock that stands."""
    with site(tmp_path) as made:
        yield made
