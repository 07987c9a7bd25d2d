"""Where CI=true a skip is a failure, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

SUITES = {
    "skip": "import pytest\ndef test_it():\n    pytest.skip('no database here')\n",
    "marker": "import pytest\n@pytest.mark.skip(reason='no database here')\ndef test_it(): pass\n",
    "whole file": "import pytest\npytest.skip('no database here', allow_module_level=True)\n",
}
EXCUSED = {
    "platform": "import pytest\n@pytest.mark.platform\ndef test_it():\n    pytest.skip('no database here')\n",
    "expected failure": "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it():\n    assert False\n",
}


def _run(folder: Path, suite: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(suite, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = platform\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "tests.ci_skips", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_a_skip_fails_under_ci_and_names_its_reason(tmp_path: Path, suite: str) -> None:
    """What was not proven must not look proven."""
    result = _run(tmp_path, suite, ci="true")

    assert result.returncode != 0
    assert "skipped under CI: no database here" in result.stdout.replace("\n", " ").replace("unconditional", "")


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_a_skip_shows_its_reason_elsewhere(tmp_path: Path, suite: str) -> None:
    """A developer without the tools sees what is not tested."""
    result = _run(tmp_path, suite, ci="")

    assert "1 skipped" in result.stdout
    assert "no database here" in result.stdout


@pytest.mark.parametrize("suite", EXCUSED.values(), ids=EXCUSED.keys())
def test_what_is_excused_does_not_fail_under_ci(tmp_path: Path, suite: str) -> None:
    """A test of another operating system may be skipped; an expected failure is no skip."""
    result = _run(tmp_path, suite, ci="true")

    assert result.returncode == 0, result.stdout
