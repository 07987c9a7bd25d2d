"""The import contracts of pyproject.toml hold, and break where they should."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT

DIRECTION = "idp_certs knows nothing of the service"
LAYERS = "Commands compose, the web asks, adapters drive, access judges"
BRIDGE = "The reference client knows nothing of the service"
BRIDGE_USE = "Only commands ask as a plug-in"
PURITY = "What judges touches neither the world nor its clock"
REFRESH = "A refresh knows neither HTTP nor the database"
EDGES = {"fetch", "refresh"}
"""What of idp_certs has effects."""

PLANTED = {
    "the core reads the environment": ("evidence_service/access/rules.py", "import os", {PURITY}),
    "the core reads the clock": ("idp_certs/metadata.py", "import time", {PURITY}),
    "trust asks the service": ("idp_certs/signature.py", "import evidence_service.access.model", {DIRECTION}),
    "a renewal is judged by the environment": ("evidence_service/renewal/plan.py", "import os", {PURITY}),
    "a renewal asks about sign-ins": (
        "evidence_service/renewal/plan.py",
        "import evidence_service.access.model",
        {LAYERS},
    ),
    "what people are told asks the drivers": (
        "evidence_service/notices/alarms.py",
        "import evidence_service.adapters.outbox",
        {LAYERS, PURITY},
    ),
    "a driver knows the web": ("evidence_service/adapters/journal.py", "import evidence_service.web", {LAYERS}),
    "trust asks the network": ("idp_certs/rollover.py", "import idp_certs.fetch", {PURITY}),
    "a refresh opens the database": ("idp_certs/refresh.py", "import sqlalchemy", {REFRESH}),
    "the service knows its worker": ("evidence_service/serve.py", "import evidence_service.work", {LAYERS}),
    "the core knows its drivers": (
        "evidence_service/access/decide.py",
        "import evidence_service.adapters.database",
        {LAYERS, PURITY},  # and by it SQLAlchemy
    ),
    "the reference client asks the service's code": (
        "plugin_bridge/client.py",
        "import evidence_service.access.model",
        {BRIDGE},
    ),
    "the service asks itself": ("evidence_service/web/auth.py", "import plugin_bridge.client", {BRIDGE_USE}),
    "a module without a place": ("evidence_service/unplaced.py", '"""Nowhere."""', {LAYERS}),
}


def _contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def _broken(output: str) -> set[str]:
    return {
        contract
        for contract in (DIRECTION, BRIDGE, BRIDGE_USE, LAYERS, PURITY, REFRESH)
        if f"{contract} BROKEN" in output
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the product's source to plant violations in."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_import_contracts_hold() -> None:
    """Every module imports only what its place allows."""
    result = _contracts(ROOT)

    assert (result.returncode, _broken(result.stdout)) == (0, set()), result.stdout + result.stderr
    assert "6 kept, 0 broken" in result.stdout


def test_every_module_that_judges_is_held_to_purity() -> None:
    """A new file of idp_certs is pure unless it is named among the edges."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (purity,) = (each for each in contracts if each["name"] == PURITY)
    judging = {path.stem for path in (ROOT / "idp_certs").glob("*.py")} - EDGES - {"__init__"}

    service = {f"evidence_service.{name}" for name in ("access", "notices", "renewal")}
    assert set(purity["source_modules"]) == {*service, *(f"idp_certs.{name}" for name in judging)}


@pytest.mark.parametrize(("file", "line", "contracts"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_violation_breaks_its_contract(copy: Path, file: str, line: str, contracts: set[str]) -> None:
    """Each contract is able to fail, and only the intended one does."""
    with (copy / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")

    result = _contracts(copy)

    assert result.returncode == 1, result.stdout + result.stderr
    assert _broken(result.stdout) == contracts, result.stdout
