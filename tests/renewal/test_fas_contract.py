from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evidence_service.adapters.fas import PowerShellFas, open_fas, open_powershell
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.fas_server import RELEASES
from evidence_service.demo.winrm import WinRmServer
from evidence_service.renewal.cmdlets import Cmdlet, response_path
from evidence_service.renewal.farm import Local, WinRm, WinRmAuth
from evidence_service.renewal.model import (
    USABLE,
    WAITING,
    CertificateStatus,
    EnrollmentTest,
    EnterMaintenance,
    Import,
    LeaveMaintenance,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Result,
    Retire,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.ports import Fas, FasAnswerUnknown, FasUnreachable, Performed
from evidence_service.renewal.reasons import RenewalReason
from tests.renewal.transports import InProcess, OverWinRm, Transport, server, standing_in, without_snapin

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAS1 = "fas1.corp.example"
DEFINITION = "default_Definition"
UPN = "fas-test@corp.example"
NEW_REQUEST = "New-FasAuthorizationCertificate"

Opening = Callable[[SimulatedFarm], Transport]


@pytest.fixture(
    params=[
        "in_process",
        "winrm",
        pytest.param(
            "local",
            marks=[
                pytest.mark.platform,
                pytest.mark.skipif(sys.platform == "win32", reason="the stand-in starts by its first line"),
            ],
        ),
    ]
)
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    """How a farm is reached."""
    with ExitStack() as stack:

        def opened(farm: SimulatedFarm) -> Transport:
            if request.param == "in_process":
                return InProcess(farm)
            if request.param == "winrm":
                return OverWinRm(stack.enter_context(WinRmServer(farm, tmp_path)))
            return stack.enter_context(standing_in(farm, tmp_path))

        yield opened


def made(release: str = "2402") -> tuple[SimulatedFarm, str]:
    """A farm whose first server has a certificate in use, that expires in 50 days, with 3 users' certificates."""
    farm = SimulatedFarm(NOW, release=release)
    return farm, farm.install(FAS1, expires=NOW + timedelta(days=50), user_certificates=3)


@pytest.fixture
def farm() -> SimulatedFarm:
    """A farm of a current release."""
    return made()[0]


@pytest.fixture
def transport(farm: SimulatedFarm, opening: Opening) -> Transport:
    """A way to that farm."""
    return opening(farm)


@pytest.fixture
def fas(transport: Transport) -> Fas:
    """The first server of that farm."""
    return transport.fas(FAS1)


def observed(fas: Fas) -> Observation:
    """What it reports."""
    return fas.observe(NOW)


def request_for(seen: Observation, farm: SimulatedFarm) -> Request:
    """A request in the place of the certificate in use."""
    return Request(
        reason=RenewalReason.DUE,
        replaces=next(iter(seen.used)),
        known=frozenset(each.id for each in seen.certificates),
        certificate_authority=farm.ca.address,
        certificate_template="Citrix_RegistrationAuthority",
        authorization_template="Citrix_RegistrationAuthority_ManualAuthorization",
        offline=False,
    )


def renewed(fas: Fas, farm: SimulatedFarm) -> tuple[str, str]:
    """The ids of the old certificate and of a new one that the CA issued."""
    seen = observed(fas)
    act = request_for(seen, farm)
    new = fas.perform(act).certificate_id
    assert new is not None
    farm.ca.issue(farm.ca.pending[0].number)
    farm.advance(timedelta(minutes=5))
    return act.replaces, new


def called(farm: SimulatedFarm, name: str) -> int:
    """How often a cmdlet reached FAS."""
    return sum(each.name == name for each in farm.calls)


def failed(performed: Performed) -> tuple[RenewalReason, str, str]:
    """Why and where it failed, with FAS's words."""
    assert performed.result is Result.FAILED
    finding = performed.finding
    assert finding is not None
    assert isinstance(finding.reason, RenewalReason)
    return finding.reason, finding.where, finding.presented


@pytest.mark.parametrize("release", RELEASES)
def test_a_server_of_each_release_is_read(release: str, opening: Opening) -> None:
    """A certificate in use and an open request, with their statuses, whatever words and properties it has."""
    farm, old = made(release)
    fas = opening(farm).fas(FAS1)
    new = fas.perform(request_for(observed(fas), farm)).certificate_id
    seen = observed(fas)
    assert {each.id: each.status in USABLE for each in seen.certificates} == {old: True, new: False}
    request = seen.certificate(new)
    assert request is not None
    assert request.status in WAITING
    assert request.request_key_sha256 is not None
    assert request.trust_area is None


def test_all_that_a_server_reports_is_read(fas: Fas, farm: SimulatedFarm) -> None:
    """Certificate, definition, rule, maintenance, and from the log begin, serial and no failures."""
    seen = observed(fas)
    (old,) = seen.certificates
    entry = farm.server(FAS1).certificates[old.id].certificate
    assert entry is not None
    assert (old.expires, old.not_before) == (entry.not_valid_after_utc, entry.not_valid_before_utc)
    assert (old.serial, old.certificate_authority) == (f"{entry.serial_number:x}", farm.ca.address)
    assert (old.key_length, old.exportable, old.status) == (2048, False, CertificateStatus.OK)
    (definition,) = seen.definitions
    assert (definition.name, definition.authorization_certificate) == (DEFINITION, old.id)
    assert definition.certificate_authorities == (farm.ca.address,)
    assert [(each.name, each.definitions) for each in seen.rules] == [("default", (DEFINITION,))]
    assert (seen.maintenance, seen.failures) == (False, ())


def test_a_refusal_of_the_ca_is_read_from_the_log(fas: Fas, farm: SimulatedFarm) -> None:
    """A user whom the CA refused leaves S124 with its code, then S123; nobody is named."""
    farm.ca.refuse_users()
    farm.call(FAS1, "New-FasUserCertificate", UserPrincipalName=UPN, Rule="default", CertificateDefinition=DEFINITION)
    failures = observed(fas).failures
    assert failures is not None
    assert [(each.event, each.disposition) for each in failures] == [(124, 2), (123, None)]
    assert UPN not in repr(failures)


def test_a_renewal_is_done_act_by_act(fas: Fas, farm: SimulatedFarm) -> None:
    """Each act is answered with done, the farm shows it, and users keep their certificates (promise 47)."""
    old, new = renewed(fas, farm)
    here = farm.server(FAS1)
    tests = (EnrollmentTest(rule="default", definition=DEFINITION),)
    assert fas.perform(EnterMaintenance(certificate_id=new)) == Performed(result=Result.DONE)
    assert here.maintenance is True
    assert fas.perform(Switch(definition=DEFINITION, before=old, after=new)) == Performed(result=Result.DONE)
    assert here.definitions[DEFINITION].authorization_certificate == new
    assert fas.perform(Verify(certificate_id=new, tests=tests, upn=UPN)) == Performed(result=Result.DONE)
    assert fas.perform(LeaveMaintenance(certificate_id=new)) == Performed(result=Result.DONE)
    assert here.maintenance is False
    assert fas.perform(Retire(certificate_id=old, replaced_by=new)) == Performed(result=Result.DONE)
    assert (list(here.certificates), len(here.users)) == ([new], 3)


def test_an_open_request_is_withdrawn(fas: Fas, farm: SimulatedFarm) -> None:
    """It leaves the server, and what is in use stays."""
    seen = observed(fas)
    new = fas.perform(request_for(seen, farm)).certificate_id
    assert new is not None
    performed = fas.perform(Withdraw(reason=RenewalReason.ASKED, certificate_id=new))
    assert performed == Performed(result=Result.DONE)
    assert frozenset(farm.server(FAS1).certificates) == seen.used


def test_an_offline_request_is_answered_by_a_file_that_is_not_left_behind(fas: Fas, farm: SimulatedFarm) -> None:
    """The request has no CA; the signed answer arrives byte for byte and makes it usable."""
    act = replace(request_for(observed(fas), farm), offline=True, certificate_authority=None)
    new = fas.perform(act).certificate_id
    request = observed(fas).certificate(new)
    assert request is not None
    assert (request.certificate_authority, request.request_pem is None) == (None, False)
    signed = farm.ca.sign_offline(request.request_pem or "")
    assert fas.perform(Import(certificate_id=request.id, response=signed, ask=1)) == Performed(result=Result.DONE)
    imported = observed(fas).certificate(new)
    assert imported is not None
    assert (imported.status, farm.server(FAS1).files) == (CertificateStatus.OK, {})


def test_what_a_cut_off_import_left_is_removed_by_its_name(fas: Fas, farm: SimulatedFarm) -> None:
    """Before the next act on a server whose requests are files; a file of another name is somebody else's."""
    ours, theirs = (
        response_path("0b3d4c0e-93a5-4f6b-8f60-0f0e3f3c2a11").casefold(),
        r"c:\windows\temp\fas-evidence-x.p7b",
    )
    farm.server(FAS1).files |= {ours: b"p7b", theirs: b"p7b"}
    assert isinstance(fas, PowerShellFas)
    fas._server = replace(fas._server, policy=RenewalPolicy(offline=True))
    fas.perform(LeaveMaintenance(certificate_id="0b3d4c0e-93a5-4f6b-8f60-0f0e3f3c2a11"))
    assert list(farm.server(FAS1).files) == [theirs]


def test_a_denied_request_keeps_the_word_of_the_ca(fas: Fas, farm: SimulatedFarm) -> None:
    """The status is Denied and the reason is there for the person who must ask (promise 49)."""
    new = fas.perform(request_for(observed(fas), farm)).certificate_id
    farm.ca.deny(farm.ca.pending[0].number, "not in the change plan")
    farm.advance(timedelta(minutes=5))
    denied = observed(fas).certificate(new)
    assert denied is not None
    assert (denied.status, denied.denial) == (CertificateStatus.DENIED, "not in the change plan")


def test_a_failing_test_fails_the_proof(fas: Fas, farm: SimulatedFarm) -> None:
    """FAS's own words are what the operator reads (promise 47)."""
    farm.server(FAS1).test_fails = True
    act = Prove(certificate_id=next(iter(observed(fas).used)), definition=DEFINITION, rule="default", upn=UPN)
    reason, where, presented = failed(fas.perform(act))
    assert (reason, where) == (RenewalReason.PROOF_FAILED, "Test-FasCertificateSigningRequest")
    assert "the CSR was rejected" in presented


def test_what_fas_refuses_failed_with_its_words(fas: Fas, farm: SimulatedFarm) -> None:
    """A CA that is away is an answer, not an unknown one: nothing was made."""
    act = request_for(observed(fas), farm)
    farm.server(FAS1).fail_next(NEW_REQUEST, "The RPC server is unavailable. 0x800706ba", "Refused,Citrix.Fas")
    assert failed(fas.perform(act)) == (
        RenewalReason.REFUSED_BY_FAS,
        NEW_REQUEST,
        "The RPC server is unavailable. 0x800706ba",
    )
    assert len(farm.server(FAS1).certificates) == 1


def test_an_error_that_ends_no_pipeline_is_an_error(fas: Fas, farm: SimulatedFarm) -> None:
    """A non-terminating error leaves the pipeline completed; the act has failed all the same."""
    (old,) = observed(fas).used
    farm.server(FAS1).fail_next("Set-FasCertificateDefinition", "half of it", terminating=False)
    act = Switch(definition=DEFINITION, before=old, after=old)
    assert failed(fas.perform(act)) == (RenewalReason.REFUSED_BY_FAS, "Set-FasCertificateDefinition", "half of it")


def test_a_removal_on_the_oldest_release_is_refused_whole(opening: Opening) -> None:
    """7.17 cannot keep the users' certificates, so nothing is removed (promise 47)."""
    farm, old = made("7.17")
    farm.server(FAS1).definitions.clear()  # what a definition names is not asked to be removed at all
    performed = opening(farm).fas(FAS1).perform(Retire(certificate_id=old, replaced_by=old))
    reason, _, presented = failed(performed)
    assert (reason, "DeleteUserCerts" in presented) == (RenewalReason.REFUSED_BY_FAS, True)
    assert list(farm.server(FAS1).certificates) == [old]


def test_a_lost_answer_is_unknown_and_nothing_is_sent_again(fas: Fas, farm: SimulatedFarm) -> None:
    """FAS has done it once: the request is there to be adopted (promises 45 and 46)."""
    act = request_for(observed(fas), farm)
    farm.server(FAS1).lose_answer_next(NEW_REQUEST)
    with pytest.raises(FasAnswerUnknown, match=NEW_REQUEST):
        fas.perform(act)
    assert called(farm, NEW_REQUEST) == 1
    assert len({each.id for each in observed(fas).certificates} - act.known) == 1


def test_a_cmdlet_that_hangs_is_unknown_when_its_time_is_over(transport: Transport, farm: SimulatedFarm) -> None:
    """The wait ends by itself, and what FAS does later is not taken for failed (promises 46 and 60)."""
    act = request_for(observed(transport.fas(FAS1)), farm)
    farm.server(FAS1).hang_next(NEW_REQUEST, 3600)
    with pytest.raises(FasAnswerUnknown, match=NEW_REQUEST):
        transport.fas(FAS1, operation_seconds=1.0).perform(act)


def test_a_reading_that_hangs_leaves_other_servers_alone(transport: Transport, farm: SimulatedFarm) -> None:
    """The next server answers as ever (promise 60)."""
    farm.server(FAS1).hang_next("Get-FasRule", 3600)
    with pytest.raises(FasAnswerUnknown, match="Get-FasRule"):
        transport.fas(FAS1, operation_seconds=1.0).observe(NOW)
    assert transport.fas("fas2.corp.example").observe(NOW).certificates == ()


def test_a_cmdlet_outside_the_list_is_never_sent(transport: Transport, farm: SimulatedFarm) -> None:
    """Approving at the CA, for one, cannot be called at all (promise 62)."""
    with transport.powershell(FAS1) as session, pytest.raises(ValueError, match="Remove-FasUserCertificate"):
        session.invoke(Cmdlet(name="Remove-FasUserCertificate"))
    assert called(farm, "Remove-FasUserCertificate") == 0


def test_text_in_a_value_stays_a_value(transport: Transport, farm: SimulatedFarm) -> None:
    """What would be script in a script is a name that no definition has."""
    name = "x'; Remove-FasUserCertificate; $('\"\n`é"
    with transport.powershell(FAS1) as session:
        answer = session.invoke(Cmdlet(name="Get-FasCertificateDefinition", parameters={"Name": name}))
    assert [each.message for each in answer.errors] == [f"A certificate definition named {name} was not found"]
    assert len(farm.server(FAS1).users) == 3


@pytest.fixture
def winrm(farm: SimulatedFarm, tmp_path: Path) -> Iterator[WinRmServer]:
    """WinRM of the farm."""
    with WinRmServer(farm, tmp_path) as serving:
        yield serving


@pytest.mark.parametrize("auth", [WinRmAuth.BASIC, WinRmAuth.CERTIFICATE, WinRmAuth.NEGOTIATE])
def test_each_way_of_signing_in_reads_the_server(auth: WinRmAuth, winrm: WinRmServer) -> None:
    """Password, client certificate, or what Negotiate finds (NTLM here; Kerberos needs a realm)."""
    assert len(open_fas(server(FAS1, winrm.connection(FAS1, auth))).observe(NOW).certificates) == 1


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (lambda good, _: replace(good, port=closed_port()), "Check host and port"),
        (lambda good, _: replace(good, ca_file=None), "Check host, ca_file"),
        (lambda good, path: replace(good, ca_file=str(path / "missing.pem")), "ca_file"),
        (lambda good, _: replace(good, host="127.1"), "TLS failed .*Check host"),
        (lambda good, _: replace(good, password="wrong"), "Check username and password"),
        (lambda good, _: replace(good, password="wrong", auth=WinRmAuth.NEGOTIATE), "Check username and password"),
        (lambda good, _: replace(good, password=None), "password"),
    ],
)
def test_who_cannot_be_reached_is_told_with_the_remedy(
    wrong: Callable[[WinRm, Path], WinRm], remedy: str, winrm: WinRmServer, farm: SimulatedFarm, tmp_path: Path
) -> None:
    """One line that names the host and what to look at; nothing was asked of FAS (promise 60)."""
    connection = wrong(winrm.connection(FAS1), tmp_path)
    with pytest.raises(FasUnreachable, match=remedy) as unreachable:
        open_fas(server(FAS1, connection)).observe(NOW)
    assert str(unreachable.value).startswith(f"{connection.host}:{connection.port}: ")
    assert "\n" not in str(unreachable.value)
    assert farm.calls == []


def test_a_server_that_is_down_is_unreachable(transport: Transport, farm: SimulatedFarm) -> None:
    """It refuses connections, and takes no cmdlet (promise 60)."""
    farm.server(FAS1).unreachable = True
    with pytest.raises(FasUnreachable):
        transport.fas(FAS1).observe(NOW)
    assert farm.calls == []


def test_a_server_that_takes_connections_and_says_nothing_is_unreachable_in_time(winrm: WinRmServer) -> None:
    """Not even TLS is answered; the wait ends by connect_seconds (promise 60)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = replace(winrm.connection(FAS1, connect_seconds=0.5), port=silent.getsockname()[1])
        with pytest.raises(FasUnreachable, match="Check host and port"):
            open_fas(server(FAS1, connection)).observe(NOW)


def test_a_missing_snapin_is_told_before_anything_is_asked(winrm: WinRmServer, farm: SimulatedFarm) -> None:
    """The remedy names the setting of sessions that load it themselves."""
    farm.server(FAS1).fail_next("Add-PSSnapin", "No snap-ins have been registered for Windows PowerShell version 5.")
    with pytest.raises(FasUnreachable, match=r"No snap-ins have been registered.*set load_snapin = false"):
        open_fas(server(FAS1, winrm.connection(FAS1))).observe(NOW)
    assert {each.name for each in farm.calls} == {"Add-PSSnapin"}


def test_a_session_that_loads_the_snapin_itself_is_not_told_to(winrm: WinRmServer, farm: SimulatedFarm) -> None:
    """A JEA endpoint does not offer Add-PSSnapin."""
    open_fas(server(FAS1, without_snapin(winrm.connection(FAS1)))).observe(NOW)
    assert called(farm, "Add-PSSnapin") == 0


def test_a_session_is_of_no_use_after_an_unknown_answer(winrm: WinRmServer, farm: SimulatedFarm) -> None:
    """What follows would wait behind the cmdlet that hangs; a new session is opened instead."""
    farm.server(FAS1).lose_answer_next("Get-FasRule")
    with open_powershell(winrm.connection(FAS1)) as session:
        with pytest.raises(FasAnswerUnknown):
            session.invoke(Cmdlet(name="Get-FasRule"))
        with pytest.raises(FasUnreachable, match="the session is closed"):
            session.invoke(Cmdlet(name="Get-FasRule"))


def test_a_missing_program_is_told_with_the_remedy() -> None:
    """Off Windows, or with a wrong path, nothing is called."""
    connection = Local(program="no-such-powershell.exe")
    with pytest.raises(FasUnreachable, match=r"no-such-powershell\.exe cannot be started\. Set `program`"):
        open_fas(server(FAS1, connection)).observe(NOW)
