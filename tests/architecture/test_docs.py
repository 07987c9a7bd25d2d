"""What the pages say is what the source says."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from evidence_service.access.model import Policy
from evidence_service.access.reasons import AccessReason
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Reason, TrustReason
from tests.architecture.sources import ROOT

REASONS: list[Reason] = [*TrustReason, *AccessReason, *RenewalReason]


def test_codes_and_ranks_are_unique_across_families() -> None:
    """A code names one thing, and of two findings one is always shown first."""
    codes = [str(reason) for reason in REASONS]
    ranks = [reason.rank for reason in REASONS]

    assert len(set(codes)) == len(codes)
    assert len(set(ranks)) == len(ranks)


@pytest.mark.parametrize("reason", REASONS, ids=str)
def test_every_reason_is_snake_case_and_explained(reason: Reason) -> None:
    """Each code is one word for machines with whole sentences for people."""
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", reason)
    assert reason.meaning.endswith(".")
    assert reason.advice.endswith(".")


def test_generated_pages_are_fresh() -> None:
    """The generated pages are those that `make docs` would write, and hold every reason."""
    result = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    page = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [reason for reason in REASONS if f"### `{reason}`" not in page] == []


def test_policy_page_describes_every_member() -> None:
    """Every member of the policy has its heading on the page, and none is described that does not exist."""
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    described = re.findall(r"^### `([a-z0-9_]+)`$", page, re.MULTILINE)

    assert described == [member.name for member in dataclasses.fields(Policy)]


def test_decision_index_lists_every_decision() -> None:
    """Every record of a decision is in the index by its number and title."""
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text(encoding="utf-8")
    records = sorted(folder.glob("[0-9][0-9][0-9][0-9]-*.md"))
    titles = [record.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for record in records]

    assert titles
    assert [f"- [{title}]({record.name})" for title, record in zip(titles, records, strict=True)] == re.findall(
        r"^- \[.*\)$", index, re.MULTILINE
    )


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: object) -> None:
    """A relative link names a file that exists."""
    folder = ROOT.joinpath(str(page)).parent
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", ROOT.joinpath(str(page)).read_text(encoding="utf-8"))

    assert [link for link in links if not (folder / link).exists()] == []
