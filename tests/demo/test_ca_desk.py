"""The CA manager's desk of a running demo, and the commands that visit it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evidence_service.cli.main import main
from evidence_service.demo.ca_desk import FILE, CaDesk, ask_desk
from evidence_service.demo.fas_ca import AGENT, ApprovalRefused, Disposition
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.service import DemoFailed

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
FAS1 = "fas1.corp.example"


@pytest.fixture
def farm() -> SimulatedFarm:
    """A farm whose first server has asked for a certificate."""
    farm = SimulatedFarm(NOW)
    farm.install(FAS1, expires=NOW + timedelta(days=40))
    asked = {"CertificateAuthority": farm.ca.address, "CertificateTemplate": AGENT}
    farm.call(FAS1, "New-FasAuthorizationCertificate", **asked)
    return farm


@pytest.fixture
def desk(farm: SimulatedFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Its CA manager's desk, open in the data directory that the commands look into."""
    monkeypatch.setenv("FAS_EVIDENCE_DATA_DIR", str(tmp_path))
    with CaDesk(farm.ca, tmp_path / FILE):
        yield tmp_path


def test_requests_are_listed(desk: Path, farm: SimulatedFarm, capsys: pytest.CaptureFixture[str]) -> None:
    """With what the mail tells the CA manager to look for."""
    (pending,) = farm.ca.pending
    assert main(["demo", "ca", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        str(pending.number),
        r"CORP\FAS1$",
        "Citrix_RegistrationAuthority_ManualAuthorization",
        "2026-11-02T09:00:00Z",
    ]


def test_a_request_is_issued(desk: Path, farm: SimulatedFarm, capsys: pytest.CaptureFixture[str]) -> None:
    """By the CA manager, once; then nothing is pending."""
    (pending,) = farm.ca.pending
    assert main(["demo", "ca", "issue", str(pending.number)]) == 0
    assert (pending.disposition, pending.decided_by) == (Disposition.ISSUED, r"CORP\ca-manager")
    assert main(["demo", "ca", "issue", str(pending.number)]) == 1
    assert capsys.readouterr().err == (
        f"error: No request {pending.number} is pending at {farm.ca.address}; "
        "`fas-evidence demo ca list` shows what is\n"
    )
    assert main(["demo", "ca", "list"]) == 0
    assert capsys.readouterr().out == "No request is pending.\n"


@pytest.mark.parametrize(
    ("arguments", "reason"), [((), "Denied by the CA manager"), (("--reason", "Not on a Friday"), "Not on a Friday")]
)
def test_a_request_is_denied_for_a_reason(
    arguments: tuple[str, ...], reason: str, desk: Path, farm: SimulatedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    """FAS gets the reason that was given."""
    (pending,) = farm.ca.pending
    assert main(["demo", "ca", "deny", str(pending.number), *arguments]) == 0
    assert (pending.disposition, pending.reason) == (Disposition.DENIED, reason)
    assert capsys.readouterr().out == f"Request {pending.number} is denied: {reason}.\n"


def test_without_a_running_demo_it_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 3."""
    monkeypatch.setenv("FAS_EVIDENCE_DATA_DIR", str(tmp_path))
    assert main(["demo", "ca", "list"]) == 3
    err = capsys.readouterr().err
    assert err.startswith(
        f"error: no running demo answers by {tmp_path / FILE}; start `fas-evidence demo` without --once"
    )
    assert err.count("\n") == 1


def test_only_who_can_read_the_file_is_answered(desk: Path, farm: SimulatedFarm) -> None:
    """The file is its owner's alone; another key, no key and no JSON get nothing, and decide nothing."""
    (pending,) = farm.ca.pending
    assert (desk / FILE).stat().st_mode & 0o777 == 0o600
    port = json.loads((desk / FILE).read_text())["port"]
    for said in (b'{"key": "guess", "number": 42}\n', b'{"number": 42}\n', b"POST / HTTP/1.1\r\n\r\n", b"[]\n", b"\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as visit:
            visit.sendall(said)
            assert visit.makefile("rb").read() == b""
    assert pending.disposition is Disposition.PENDING


def test_a_file_that_was_left_opens_nothing(desk: Path) -> None:
    """A demo that was killed leaves its file; nobody answers there any more, or it is no such file."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for left in (json.dumps({"port": taken.getsockname()[1], "key": "k"}), "{}", "[]", "no JSON"):
            (desk / FILE).write_text(left)
            with pytest.raises(DemoFailed, match="no running demo answers"):
                ask_desk(desk)


def test_who_asked_does_not_decide(desk: Path, farm: SimulatedFarm) -> None:
    """The desk is the CA manager's; where he may not decide, the CA's own words say so."""
    (pending,) = farm.ca.pending
    farm.ca.managers = frozenset()
    with pytest.raises(ApprovalRefused, match="has no Manage CA right"):
        ask_desk(desk, pending.number)
    assert pending.disposition is Disposition.PENDING


def test_the_file_goes_with_the_desk(farm: SimulatedFarm, tmp_path: Path) -> None:
    """Nothing of it stays."""
    with CaDesk(farm.ca, tmp_path / FILE):
        assert (tmp_path / FILE).exists()
    assert list(tmp_path.iterdir()) == []
