"""Revoked authorization certificates, from CRLs that a real server hands out (promise 58)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evidence_service.adapters.revocation import LONGEST_USE, RETRY, RULES, Revocations, Unknown
from evidence_service.renewal.farm import RevocationList
from evidence_service.renewal.model import AuthorizationCertificate, CertificateStatus, Observation
from tests.metadata.server import MetadataServer

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CA = r"ca.example.test\Example CA"
PATH = "/CertEnroll/Example%20CA.crl"
REVOKED_AT = datetime(2026, 5, 30, 8, tzinfo=UTC)
REVOKED, GOOD = 0x6A00000012F, 0x6A000000130
KEY, OTHER_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")])


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        """It stands at NOW."""
        self.now = NOW

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now


def issuer(*, name: x509.Name = NAME, crl_sign: bool = True) -> bytes:
    """The CA's certificate (DER)."""
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW - 365 * DAY)
        .not_valid_after(NOW + 365 * DAY)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=crl_sign, **usage), critical=True)
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def crl(
    *,
    revoked: Sequence[int] = (REVOKED,),
    since: datetime = NOW - HOUR,
    until: datetime = NOW + 7 * DAY,
    key: ec.EllipticCurvePrivateKey = KEY,
    name: x509.Name = NAME,
    reason: x509.ReasonFlags | None = None,
    extension: x509.ExtensionType | None = None,
    encoding: Encoding = Encoding.DER,
) -> bytes:
    """A list of the CA, in force at NOW."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(since).next_update(until)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(REVOKED_AT)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


def distribution(**only: bool) -> x509.IssuingDistributionPoint:
    """The extension that says what a list covers."""
    parts = {
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    uri = [x509.UniformResourceIdentifier("http://ca.example.test/a.crl")]
    return x509.IssuingDistributionPoint(full_name=uri, relative_name=None, only_some_reasons=None, **(parts | only))


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    """A plain web server, as CAs publish CRLs on."""
    with MetadataServer(tls=False) as started:
        started.serve(PATH, crl())
        yield started


@pytest.fixture
def clock() -> Clock:
    """It stands at NOW."""
    return Clock()


def listed(server: MetadataServer, path: str = PATH) -> RevocationList:
    """The CA's list at that path."""
    return RevocationList(certificate_authority=CA, url=server.url(path, host="127.0.0.1"), issuer=issuer())


def revocations(server: MetadataServer, clock: Clock) -> Revocations:
    """With the one list of the server."""
    return Revocations([listed(server)], clock)


def unknown(revocations: Revocations, serial: int = GOOD) -> str:
    """Why it cannot be said whether the certificate is revoked; the same is shown as the list's problem."""
    answer = revocations.revoked_at(CA, f"{serial:x}")
    assert isinstance(answer, Unknown)
    assert [(each.certificate_authority, each.text) for each in revocations.problems()] == [(CA, answer.problem)]
    return answer.problem


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_list_says_which_certificates_are_revoked(server: MetadataServer, clock: Clock, encoding: Encoding) -> None:
    """The certificate on the list is revoked since the date in it, another is not, however the CA's name is cased."""
    server.serve(PATH, crl(encoding=encoding))
    known = revocations(server, clock)

    assert known.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT
    assert known.revoked_at(CA.upper(), f"00{REVOKED:X}") == REVOKED_AT
    assert known.revoked_at(CA, f"{GOOD:x}") is None
    assert known.problems() == ()


def test_a_revoked_certificate_is_marked_in_what_was_observed(server: MetadataServer, clock: Clock) -> None:
    """Promise 58: only the certificate of this CA and serial number is marked; its own DER tells the number too."""
    der = issuer()
    server.serve(PATH, crl(revoked=[REVOKED, 1]))
    certificate = AuthorizationCertificate(
        id="a", status_word="Ok", status=CertificateStatus.OK, certificate_authority=CA, serial=f"{REVOKED:x}"
    )
    others = (
        replace(certificate, id="b", serial=f"{GOOD:x}"),
        replace(certificate, id="c", certificate_authority=r"other\CA"),
        replace(certificate, id="d", serial=None),
        replace(certificate, id="e", certificate_authority=None),
    )
    offline = replace(certificate, id="f", serial=None, der=der)
    seen = Observation(server="fas1", at=NOW, certificates=(certificate, *others, offline), definitions=(), rules=())

    marked = revocations(server, clock).mark(seen)

    assert marked.certificates == (
        replace(certificate, revoked_at=REVOKED_AT),
        *others,
        replace(offline, revoked_at=REVOKED_AT),
    )


def test_a_list_is_used_for_an_hour_and_then_fetched_again(server: MetadataServer, clock: Clock) -> None:
    """A revocation is known within one check interval, and the CA is not asked at each question."""
    known = revocations(server, clock)
    known.revoked_at(CA, f"{GOOD:x}")
    server.serve(PATH, crl(revoked=[REVOKED, GOOD], since=NOW))
    clock.now += LONGEST_USE - timedelta(seconds=1)
    before = known.revoked_at(CA, f"{GOOD:x}")
    asked = server.requests(PATH)
    clock.now += timedelta(seconds=1)

    assert (before, asked) == (None, 1)
    assert known.revoked_at(CA, f"{GOOD:x}") == REVOKED_AT


@pytest.mark.parametrize(
    ("document", "because"),
    [
        (crl(key=OTHER_KEY), "not signed by the configured issuer's key"),
        (crl(revoked=[], key=OTHER_KEY), "not signed by the configured issuer's key"),
        (crl(name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Other CA")])), "it is the list of CN=Other CA"),
        (crl(since=NOW - 8 * DAY, until=NOW), "due for an update at 2026-06-01T12:00:00Z"),
        (crl(since=NOW + HOUR), "still to come"),
        (crl(extension=x509.DeltaCRLIndicator(7)), "delta CRL"),
        (crl(extension=distribution(only_contains_ca_certs=True)), "covers only some"),
        (crl(extension=distribution(indirect_crl=True)), "covers only some"),
        (
            crl(extension=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")),
            "critical extension 1.3.6.1.4.1.99999.1",
        ),
        (b"<html>sign in</html>", "no CRL that can be read"),
        (crl()[:-40], "no CRL that can be read"),
        (b"", "no CRL that can be read"),
    ],
    ids=[
        "forged",
        "forged empty",
        "other CA",
        "expired",
        "future",
        "delta",
        "partial",
        "indirect",
        "critical",
        "html",
        "cut",
        "empty",
    ],
)
@pytest.mark.parametrize("serial", [REVOKED, GOOD])
def test_a_list_that_may_not_be_used_tells_nothing(
    server: MetadataServer, clock: Clock, document: bytes, because: str, serial: int
) -> None:
    """Neither revoked nor fine, and the reason says what to do."""
    server.serve(PATH, document)

    assert because in unknown(revocations(server, clock), serial)


def test_a_list_for_users_certificates_is_complete_for_ours(server: MetadataServer, clock: Clock) -> None:
    """AD CS may say where its list lies; an authorization certificate is an end entity's."""
    server.serve(PATH, crl(extension=distribution(only_contains_user_certs=True)))

    assert revocations(server, clock).revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT


def test_a_flipped_bit_is_noticed(server: MetadataServer, clock: Clock) -> None:
    """Taking the serial number off the list by one bit breaks the signature."""
    whole = crl()
    at = whole.index(REVOKED.to_bytes(6, "big"))
    server.serve(PATH, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])

    assert "not signed" in unknown(revocations(server, clock))


@pytest.mark.parametrize(
    ("reason", "since"), [(x509.ReasonFlags.remove_from_crl, None), (x509.ReasonFlags.certificate_hold, REVOKED_AT)]
)
def test_a_suspension_counts_until_it_is_taken_back(
    server: MetadataServer, clock: Clock, reason: x509.ReasonFlags, since: datetime | None
) -> None:
    """On hold is revoked; removeFromCRL is not."""
    server.serve(PATH, crl(reason=reason))

    assert revocations(server, clock).revoked_at(CA, f"{REVOKED:x}") == since


def test_a_certificate_that_leaves_the_list_is_no_longer_revoked(server: MetadataServer, clock: Clock) -> None:
    """The newer list rules, as after a suspension."""
    known = revocations(server, clock)
    first = known.revoked_at(CA, f"{REVOKED:x}")
    server.serve(PATH, crl(revoked=[], since=NOW))
    clock.now += LONGEST_USE

    assert (first, known.revoked_at(CA, f"{REVOKED:x}")) == (REVOKED_AT, None)


def test_an_older_list_does_not_replace_a_newer_one(server: MetadataServer, clock: Clock) -> None:
    """Replaying the list from before the revocation does not undo it, and is told."""
    known = revocations(server, clock)
    known.revoked_at(CA, f"{REVOKED:x}")
    server.serve(PATH, crl(revoked=[], since=NOW - 2 * HOUR))
    clock.now += LONGEST_USE

    assert known.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT
    assert "older than one that was fetched before" in known.problems()[0].text


def test_a_failing_server_is_told_while_the_last_list_holds(server: MetadataServer, clock: Clock) -> None:
    """Until its nextUpdate the last list answers; then nothing is fine any more, and what is revoked stays so."""
    known = revocations(server, clock)
    known.revoked_at(CA, f"{GOOD:x}")
    server.serve(PATH, status=500)
    clock.now += LONGEST_USE
    while_it_holds = known.revoked_at(CA, f"{GOOD:x}")
    problem = known.problems()[0].text
    clock.now = NOW + 7 * DAY

    assert while_it_holds is None
    assert "HTTP status 500" in problem
    assert "the one from before is used until 2026-06-08T12:00:00Z" in problem
    assert "HTTP status 500" in unknown(known)
    assert known.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT


def test_a_failing_server_is_left_alone_for_a_while(server: MetadataServer, clock: Clock) -> None:
    """One failure is not asked for again at once, and the list is used as soon as it is there."""
    server.serve(PATH, status=503)
    known = revocations(server, clock)
    unknown(known)
    unknown(known)
    asked = server.requests(PATH)
    server.serve(PATH, crl())
    clock.now += RETRY

    assert asked == 1
    assert known.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT
    assert known.problems() == ()


def test_a_clock_that_was_ahead_for_a_moment_blinds_nobody(server: MetadataServer, clock: Clock) -> None:
    """By it every list is out of date, and the next look is far away."""
    known = revocations(server, clock)
    clock.now = NOW + 3650 * DAY
    assert "due for an update" in unknown(known)
    clock.now = NOW
    assert known.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT


def test_a_server_that_cannot_be_reached_tells_nothing(server: MetadataServer, clock: Clock) -> None:
    """No connection is no answer."""
    server.stop()

    assert "no answer" in unknown(revocations(server, clock))


def test_a_redirect_is_not_followed(server: MetadataServer, clock: Clock) -> None:
    """The list is at its own address or nowhere."""
    server.redirect(PATH, server.url("/elsewhere", host="127.0.0.1"))

    assert "HTTP status 302" in unknown(revocations(server, clock))
    assert server.requests("/elsewhere") == 0


def test_an_endless_or_slow_answer_is_cut_off(server: MetadataServer, clock: Clock) -> None:
    """Size and time are bounded as a whole."""
    few = replace(RULES, max_bytes=4096)
    short = replace(RULES, timeout=timedelta(seconds=0.3))
    server.serve("/endless", length=1 << 40)
    server.serve("/slow", crl(), drip=0.02)

    assert "more than 4096 bytes" in unknown(Revocations([listed(server, "/endless")], clock, rules=few))
    assert "within 0.3 s" in unknown(Revocations([listed(server, "/slow")], clock, rules=short))


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("ldap:///CN=Example%20CA,CN=CDP?certificateRevocationList", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("http://[", "cannot be asked for"),
    ],
)
def test_another_kind_of_address_is_a_problem(clock: Clock, url: str, because: str) -> None:
    """CRLs come over http or https alone."""
    known = Revocations([RevocationList(certificate_authority=CA, url=url, issuer=issuer())], clock)

    assert because in unknown(known)


def test_over_https_the_server_is_verified(tmp_path: Path, clock: Clock) -> None:
    """With the authority that is set the list is had, without it nothing is."""
    ca_file = tmp_path / "ca.pem"
    with MetadataServer() as server:
        server.serve(PATH, crl())
        ca_file.write_text(server.ca_pem)
        trusted = Revocations([replace(listed(server), ca_file=str(ca_file))], clock)

        assert trusted.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT
        assert "does not verify" in unknown(revocations(server, clock))


def test_an_issuer_that_may_not_sign_lists_is_a_problem(server: MetadataServer, clock: Clock) -> None:
    """The configured certificate must be one for CRLs, and readable."""
    without = replace(listed(server), issuer=issuer(crl_sign=False))
    damaged = replace(listed(server), issuer=b"\x30\x00")

    assert "may not sign CRLs" in unknown(Revocations([without], clock))
    assert "cannot be read" in unknown(Revocations([damaged], clock))


def test_each_key_of_a_ca_has_its_list(server: MetadataServer, clock: Clock) -> None:
    """After a renewal of the CA's key a certificate is revoked by either list, and fine only by both."""
    server.serve("/second", crl(revoked=[GOOD]))
    server.serve("/broken", status=404)
    both = Revocations([listed(server), listed(server, "/second")], clock)
    one = Revocations([listed(server), listed(server, "/broken")], clock)

    assert [both.revoked_at(CA, f"{each:x}") for each in (REVOKED, GOOD, 5)] == [REVOKED_AT, REVOKED_AT, None]
    assert one.revoked_at(CA, f"{REVOKED:x}") == REVOKED_AT
    assert "HTTP status 404" in unknown(one)


def test_problems_are_told_once_for_each_ca(server: MetadataServer, clock: Clock) -> None:
    """Two lists of one CA that cannot be had are one problem that names both."""
    known = Revocations([listed(server, "/first"), listed(server, "/second")], clock)
    known.revoked_at(CA, "1")
    (problem,) = known.problems()

    assert problem.certificate_authority == CA
    assert "/first" in problem.text
    assert "/second" in problem.text


def test_a_ca_without_a_list_is_unknown(server: MetadataServer, clock: Clock) -> None:
    """What nobody configured is not fine; a serial number that is none is told."""
    known = revocations(server, clock)
    other = known.revoked_at(r"other\CA", "1")

    assert isinstance(other, Unknown)
    assert "no CRL is configured" in other.problem
    for serial in ("not hex", "-5", "0x5", "1_0", "", "f" * 41):
        odd = known.revoked_at(CA, serial)
        assert isinstance(odd, Unknown)
        assert "not hexadecimal" in odd.problem
