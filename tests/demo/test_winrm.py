"""The simulated farm by PowerShell remoting: pypsrp, which knows nothing of it, opens sessions and calls cmdlets."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import AuthenticationError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from evidence_service.demo.fas_ca import AGENT
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.winrm import WinRmServer
from evidence_service.renewal.cmdlets import failure_events
from evidence_service.renewal.farm import WinRm

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
FAS1, FAS2 = "fas1.corp.example", "fas2.corp.example"
EVENT_LOG = "System.Diagnostics.Eventing.Reader.EventLogException"
AUTHS = ("basic", "certificate", "negotiate")
NONSENSE: tuple[tuple[str, dict[str, object], str], ...] = (
    ("New-FasAuthorizationCertificateRequest", {"DistinguishedName": "nobody"}, "FederatedAuthenticationServerFault"),
    ("Get-FasServer", {"UserName": "CORP\\alice", "Password": "guess"}, "SecurityNegotiationException"),
    ("Get-FasUserCertificate", {"MaximumRecordCount": -1}, "ParameterArgumentValidationError"),
    ("Get-FasUserCertificate", {"MaximumRecordCount": "many"}, "ParameterArgumentTransformationError"),
    ("Get-WinEvent", {"LogName": "Application", "FilterXPath": "*[EventID"}, EVENT_LOG),
    ("Get-WinEvent", {"LogName": "Security", "FilterXPath": "*"}, EVENT_LOG),
    ("Get-WinEvent", {"LogName": "Application"}, "MissingMandatoryParameter"),
)
"""What a caller may get wrong, and the error that answers it."""


@pytest.fixture
def farm() -> SimulatedFarm:
    """Two servers, of which the first has a certificate."""
    farm = SimulatedFarm(NOW)
    farm.install(FAS1, expires=NOW + timedelta(days=40))
    return farm


@pytest.fixture
def server(farm: SimulatedFarm, tmp_path: Path) -> Iterator[WinRmServer]:
    """WinRM of both."""
    with WinRmServer(farm, tmp_path) as server:
        yield server


def client(connection: WinRm, operation_timeout: int = 20) -> WSMan:
    """Pypsrp's client of a connection."""
    return WSMan(
        connection.host,
        port=connection.port,
        ssl=True,
        auth=connection.auth.value,
        username=connection.username,
        password=connection.password,
        certificate_pem=connection.client_certificate,
        certificate_key_pem=connection.client_key,
        cert_validation=connection.ca_file or True,  # type: ignore[arg-type] # it takes a path as well
        operation_timeout=operation_timeout,
        read_timeout=operation_timeout + 10,
        no_proxy=True,
    )


def call(pool: RunspacePool, name: str, **parameters: object) -> tuple[list[Mapping[str, Any]], list[str]]:
    """What a cmdlet writes: the properties of its objects, and the ids of its errors."""
    shell = PowerShell(pool).add_cmdlet(name).add_parameters(parameters)
    objects = [each.adapted_properties for each in shell.invoke()]
    return objects, [str(each.fq_error) for each in shell.streams.error]


@pytest.mark.parametrize("auth", AUTHS)
def test_a_client_signs_in_and_calls_cmdlets(server: WinRmServer, farm: SimulatedFarm, auth: str) -> None:
    """Password, NTLM within Negotiate and client certificate all lead to the same account's session."""
    with client(server.connection(FAS1, auth)) as wsman, RunspacePool(wsman) as pool:
        (certificate,), errors = call(pool, "Get-FasAuthorizationCertificate", FullCertInfo=True)
        call(pool, "Set-FasServer", MaintenanceMode=True)

    (entry,) = farm.server(FAS1).certificates.values()
    assert errors == []
    assert (str(certificate["Id"]), str(certificate["Status"])) == (entry.id, "Ok")
    assert datetime.fromisoformat(certificate["ExpiryDate"]) == NOW + timedelta(days=40)
    assert (certificate["KeyLength"], certificate["Exportable"], certificate["CertificateRequest"]) == (
        2048,
        False,
        None,
    )
    assert farm.server(FAS1).maintenance
    assert [(each.server, each.account.casefold()) for each in farm.calls] == [(FAS1, r"corp\svc-fas-renewal")] * 2


@pytest.mark.parametrize("auth", ["basic", "negotiate"])
def test_a_wrong_password_opens_nothing(server: WinRmServer, farm: SimulatedFarm, auth: str) -> None:
    """The account alone is not enough."""
    wrong = replace(server.connection(FAS1, auth), password="guess")

    with client(wrong) as wsman, pytest.raises(AuthenticationError), RunspacePool(wsman):
        pass
    assert farm.calls == []


def test_a_request_without_proof_is_told_how_to_sign_in(server: WinRmServer) -> None:
    """No sign-in, and a claim to have a certificate without one, are answered by 401 with the offers."""
    connection = server.connection(FAS1)
    verify = ssl.create_default_context(cafile=connection.ca_file)
    mutual = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
    for headers in ({}, {"Authorization": mutual}):
        answer = httpx.post(
            f"https://localhost:{connection.port}/wsman", content=b"<x/>", headers=headers, verify=verify
        )

        assert answer.status_code == 401
        assert answer.headers.get_list("WWW-Authenticate") == ["Negotiate", 'Basic realm="WSMAN"']


def test_another_authority_is_not_believed(server: WinRmServer) -> None:
    """Without the farm's authority a client refuses the connection itself."""
    with client(replace(server.connection(FAS1), ca_file=None)) as wsman, pytest.raises(requests.exceptions.SSLError):
        RunspacePool(wsman).open()


def test_errors_arrive_as_records(server: WinRmServer) -> None:
    """What FAS refuses, what PowerShell does not know, and what it finds none of, each with its own id."""
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        assert call(pool, "Remove-FasAuthorizationCertificate", Id="none")[1] == ["FederatedAuthenticationServerFault"]
        assert call(pool, "Get-Nothing")[1] == ["CommandNotFoundException"]
        _, (error,) = call(pool, "Get-FasRule", Colour="red")
        assert error.startswith("NamedParameterNotFound,")
        nothing = failure_events(timedelta(days=1))
        _, (error,) = call(pool, nothing.name, **nothing.parameters)
        assert error == "NoMatchingEventsFound,Microsoft.PowerShell.Commands.GetWinEventCommand"


def test_scripts_are_refused(server: WinRmServer) -> None:
    """Only a cmdlet by name runs, as at a JEA endpoint."""
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        shell = PowerShell(pool).add_script("Get-FasServer")
        shell.invoke()

    assert [str(each.fq_error) for each in shell.streams.error] == ["ScriptsNotAllowed"]


def test_a_call_may_last_longer_than_the_operation_timeout(server: WinRmServer, farm: SimulatedFarm) -> None:
    """The client asks again until the answer is there."""
    farm.server(FAS1).hang_next("Get-FasServer", 1.5)
    with client(server.connection(FAS1), operation_timeout=1) as wsman, RunspacePool(wsman) as pool:
        objects, errors = call(pool, "Get-FasServer")

    assert ([each["Address"] for each in objects], errors) == ([FAS1, FAS2], [])


def test_a_lost_answer_is_a_cut_connection_after_the_act(server: WinRmServer, farm: SimulatedFarm) -> None:
    """FAS has made the request, and the client does not hear of it."""
    farm.server(FAS1).lose_answer_next("New-FasAuthorizationCertificate")
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        with pytest.raises(requests.exceptions.ConnectionError):
            call(
                pool,
                "New-FasAuthorizationCertificate",
                CertificateAuthority=farm.ca.address,
                CertificateTemplate=AGENT,
            )
        objects, _ = call(pool, "Get-FasAuthorizationCertificate")

    assert [str(each["Status"]) for each in objects] == ["Ok", "WaitingForApproval"]


def test_a_refusal_may_be_lost_too(server: WinRmServer, farm: SimulatedFarm) -> None:
    """Whether FAS did it or refused it, nothing tells the client."""
    farm.server(FAS1).lose_answer_next("Remove-FasAuthorizationCertificate")
    with (
        client(server.connection(FAS1)) as wsman,
        RunspacePool(wsman) as pool,
        pytest.raises(requests.exceptions.ConnectionError),
    ):
        call(pool, "Remove-FasAuthorizationCertificate", Id="none")
    assert [each.name for each in farm.calls] == ["Remove-FasAuthorizationCertificate"]


def test_what_nonsense_is_given_is_an_error_record(server: WinRmServer) -> None:
    """FAS refuses it in words; no pipeline is left hanging by it."""
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        for name, parameters, error_id in NONSENSE:
            assert [each.partition(",")[0] for each in call(pool, name, **parameters)[1]] == [error_id], name


def test_a_call_that_hangs_can_be_stopped(server: WinRmServer, farm: SimulatedFarm) -> None:
    """Nothing comes, the client gives up and goes on, and FAS has done nothing (promise 60)."""
    farm.server(FAS1).hangs = True
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        shell = PowerShell(pool).add_cmdlet("Set-FasServer").add_parameter("MaintenanceMode", True)
        shell.begin_invoke()
        shell.poll_invoke(timeout=1)
        assert shell.state == PSInvocationState.RUNNING
        shell.stop()
        farm.server(FAS1).hangs = False
        objects, _ = call(pool, "Get-FasServer", Address=FAS1)

    assert objects == [{"Address": FAS1, "MaintenanceMode": False}]


def test_a_status_that_no_release_has_is_text(server: WinRmServer, farm: SimulatedFarm) -> None:
    """What a newer FAS may say arrives as it is."""
    (old,) = farm.server(FAS1).certificates
    farm.server(FAS1).says[old] = "Hibernating"
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        (shown,), _ = call(pool, "Get-FasAuthorizationCertificate")

    assert shown["Status"] == "Hibernating"


def test_an_unreachable_server_takes_no_connection(server: WinRmServer, farm: SimulatedFarm) -> None:
    """Its neighbour goes on answering."""
    farm.server(FAS1).unreachable = True
    with client(server.connection(FAS1)) as wsman, pytest.raises(requests.exceptions.ConnectionError):
        RunspacePool(wsman).open()
    with client(server.connection(FAS2)) as wsman, RunspacePool(wsman) as pool:
        objects, _ = call(pool, "Get-FasServer", Address=FAS2)

    assert objects == [{"Address": FAS2, "MaintenanceMode": False}]


def test_files_and_lists_travel(server: WinRmServer, farm: SimulatedFarm) -> None:
    """An offline request is signed elsewhere, written to the server as bytes, and imported."""
    path = r"C:\Windows\Temp\answer.p7b"
    with client(server.connection(FAS1)) as wsman, RunspacePool(wsman) as pool:
        (asked,), _ = call(pool, "New-FasAuthorizationCertificateRequest")
        signed = farm.ca.sign_offline(asked["CertificateRequest"])
        call(pool, "Set-Content", LiteralPath=path, Value=signed, Encoding="Byte")
        (made,), errors = call(
            pool, "Import-FasAuthorizationCertificateResponse", Id=str(asked["Id"]), Pkcs7CertificateFile=path
        )
        call(pool, "Remove-Item", LiteralPath=path)
        call(pool, "Set-FasRule", Name="default", CertificateDefinitions=["default_Definition", "second"])
        (rule,), _ = call(pool, "Get-FasRule")

    assert errors == []
    assert (made["Id"], str(made["Status"]), made["Address"]) == (asked["Id"], "Ok", "[Offline CSR]")
    assert farm.server(FAS1).files == {}
    assert rule["CertificateDefinitions"] == ["default_Definition", "second"]


def test_what_is_no_message_is_refused(server: WinRmServer) -> None:
    """A body that is no SOAP, too large, or for another path ends in an answer, not in a hanging server."""
    connection = server.connection(FAS1)
    url = f"https://localhost:{connection.port}"
    with httpx.Client(
        verify=ssl.create_default_context(cafile=connection.ca_file),
        auth=(connection.username or "", connection.password or ""),
    ) as http:
        assert http.post(f"{url}/wsman", content=b"<!DOCTYPE x><x/>").status_code == 500
        assert http.post(f"{url}/wsman", content=b"x" * 300_000).status_code == 413
        assert http.post(f"{url}/other", content=b"<x/>").status_code == 404


def test_nothing_secret_stays(farm: SimulatedFarm, tmp_path: Path) -> None:
    """When it ends, the accounts and the server's key are in no file."""
    with WinRmServer(farm, tmp_path):
        pass

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "winrm-ca.pem",
        "winrm-client.key",
        "winrm-client.pem",
    ]
