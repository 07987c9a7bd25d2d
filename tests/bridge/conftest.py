"""The plug-in is compiled once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.given import Plugin, compile_plugin
from tests.web.listening import Identity, identity


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    """The compiled plug-in."""
    return compile_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The service's certificate."""
    return identity(tmp_path_factory.mktemp("server"), "server")


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The plug-in's certificate."""
    return identity(tmp_path_factory.mktemp("client"), "fas1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a test keeps its settings."""
    return tmp_path
