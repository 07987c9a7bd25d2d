"""Which servers are renewed, how each is reached, and by which policy."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.serialization import Encoding

from evidence_service.renewal.farm import FasServer, Local, RevocationList, WinRm
from evidence_service.renewal.model import RenewalPolicy
from evidence_service.renewal_settings.checks import check_policy
from evidence_service.renewal_settings.faults import MemberProblem
from evidence_service.renewal_settings.files import Files
from evidence_service.renewal_settings.tables import RenewalTable, RevocationListTable, ServerTable


def server_of(server: ServerTable, defaults: RenewalTable, files: Files) -> FasServer:
    """One of `[[fas_servers]]`, with what is set for all. Raises MemberProblem."""
    table = f"[[fas_servers]] {server.name},"
    policy = replace(RenewalPolicy(), **{**defaults.members(), **server.renewal.members()})
    check_policy(table, policy)
    seconds = server.operation_timeout.total_seconds()
    connection: WinRm | Local = Local(program=server.program, operation_seconds=seconds)
    if server.connection == "winrm":
        connection = WinRm(
            host=server.host or server.name,
            port=server.port,
            auth=server.auth,
            username=server.username,
            password=files.secret(table, "password_file", server.password_file),
            client_certificate=files.pem(table, "client_certificate", server.client_certificate),
            client_key=files.private(table, "client_key", server.client_key),
            ca_file=files.pem(table, "ca_file", server.ca_file),
            configuration_name=server.configuration_name,
            load_snapin=server.load_snapin,
            connect_seconds=server.connect_timeout.total_seconds(),
            operation_seconds=seconds,
        )
    here = server.address in (None, "localhost")
    return FasServer(
        name=server.name,
        policy=policy,
        connection=connection,
        address=server.address,
        read_events=here if server.read_events is None else server.read_events,
    )


def revocation_list_of(given: RevocationListTable, files: Files) -> RevocationList:
    """One of `[[revocation_lists]]`. Raises MemberProblem."""
    table = f"[[revocation_lists]] {given.certificate_authority},"
    issuers = files.certificates(table, "issuer", given.issuer)
    if len(issuers) != 1:
        raise MemberProblem(
            table, "issuer", f"{given.issuer} holds {len(issuers)} certificates; give the CA's own alone"
        )
    return RevocationList(
        certificate_authority=given.certificate_authority,
        url=given.url,
        issuer=issuers[0].public_bytes(Encoding.DER),
        ca_file=files.pem(table, "ca_file", given.ca_file),
    )
