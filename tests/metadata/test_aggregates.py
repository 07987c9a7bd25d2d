"""Federation documents: one entity is taken out of many, in bounded memory, and nothing of the others comes with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evidence_service.access.model import Policy
from idp_certs.metadata import AGGREGATE_LIMITS, METADATA_LIMITS, IdpMetadata, parse_metadata
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate
from idp_certs.reasons import Finding, Refused
from tests.core.given import ENTITY_ID, LONG_AGO, deny, genuine, idp_of, judged, outcome, policy_for, snapshot_of
from tests.corpus import names as n
from tests.metadata.aggregates import HEAD, TAIL, entity, federation, name_of
from tests.metadata.vendors import ders

STATUS = Path("/proc/self/status")
ROLE = f'<md:IDPSSODescriptor protocolSupportEnumeration="{n.SAMLP}">'
RPI = "urn:oasis:names:tc:SAML:metadata:rpi"


def refused(data: bytes, entity_id: str | None = None) -> Finding:
    """Why the document is refused."""
    with pytest.raises(Refused) as caught:
        parse_metadata(data, entity_id=entity_id)
    return caught.value.finding


def group(*content: str, attributes: str = "") -> bytes:
    """An aggregate of this content."""
    names = f'xmlns:md="{n.MD}" xmlns:ds="{n.DS}" xmlns:mdrpi="{RPI}"'
    return f"<md:EntitiesDescriptor {names}{attributes}>{''.join(content)}</md:EntitiesDescriptor>".encode()


def published(instant: str) -> str:
    """Extensions with a publication at this instant."""
    return f'<md:Extensions><mdrpi:PublicationInfo publisher="p" creationInstant="{instant}"/></md:Extensions>'


def one(entity_id: str, *content: str, attributes: str = "", role: str = "") -> str:
    """An entity with an IdP role without keys."""
    return (
        f'<md:EntityDescriptor entityID="{entity_id}"{attributes}>{"".join(content)}'
        f"{ROLE[:-1]}{role}></md:IDPSSODescriptor></md:EntityDescriptor>"
    )


def test_one_of_many() -> None:
    """The entity asked for, wherever it stands, with what the groups around it say."""
    data = federation(20, size=5000)

    for number in (0, 7, 19):
        (found,) = parse_metadata(data, entity_id=name_of(number))
        assert found == IdpMetadata(
            entity_id=name_of(number),
            signing_certificates=ders("idp"),
            problems=(),
            valid_until=datetime(2026, 1, 15, tzinfo=UTC),
            sso_urls=tuple(f"{name_of(number)}/{each}/SSO" for each in ("HTTP-POST", "HTTP-Redirect", "SOAP")),
            created=datetime(2026, 1, 1, tzinfo=UTC),
            cache_duration=timedelta(hours=6),
        )
    assert [each.entity_id for each in parse_metadata(data)] == [name_of(each) for each in range(20)]


def test_one_equals_the_same_of_all() -> None:
    """Asking for one entity gives just what listing all gives for it."""
    data = federation(5, size=3000)

    assert tuple(parse_metadata(data, entity_id=name_of(each))[0] for each in range(5)) == parse_metadata(data)


def test_an_entity_that_is_missing() -> None:
    """G03, promise 39: another entity ID is refused, and the first names that are there are shown."""
    finding = refused(federation(20, size=3000), "https://idp.example")

    assert finding.reason == "metadata_entity_mismatch"
    assert finding.expected == "https://idp.example"
    assert finding.presented == ", ".join(map(name_of, range(5))) + " and others"


@pytest.mark.parametrize("almost", ["urn:A", "urn:a ", " urn:a", "urn:a/", "urn:", ""])
def test_names_are_compared_exactly(almost: str) -> None:
    """G03: no case folding, no blanks, no prefixes."""
    assert refused(group(one("urn:a"), one("urn:b")), almost).reason == "metadata_entity_mismatch"


def test_an_entity_that_is_no_idp() -> None:
    """Promise 24: the entity asked for is there, but only as a service provider."""
    sp = f'<md:EntityDescriptor entityID="urn:sp"><md:SPSSODescriptor protocolSupportEnumeration="{n.SAMLP}"/>'

    assert refused(group(sp + "</md:EntityDescriptor>", one("urn:a")), "urn:sp").reason == "metadata_no_idp"


def test_the_entity_twice() -> None:
    """G05: the entity asked for twice is ambiguous, in one group, in two, or once as an SP; another's double is not."""
    sp = '<md:EntityDescriptor entityID="urn:a"><md:SPSSODescriptor protocolSupportEnumeration="urn:x"/>'
    inner = f"<md:EntitiesDescriptor>{one('urn:a')}</md:EntitiesDescriptor>"
    for twice in (one("urn:a"), inner, sp + "</md:EntityDescriptor>"):
        data = group(one("urn:a"), one("urn:b"), twice)
        assert refused(data, "urn:a").reason == "metadata_ambiguous"
        assert refused(data).reason == "metadata_ambiguous"
        assert parse_metadata(data, entity_id="urn:b")[0].entity_id == "urn:b"


def test_an_attackers_entity_beside_ours() -> None:
    """G06: another entity of the same aggregate gives no key to ours; what it signed for ours is refused."""
    data = (HEAD + entity("https://evil.example", size=0, key="attacker") + entity(ENTITY_ID, size=0) + TAIL).encode()
    (found,) = parse_metadata(data, entity_id=ENTITY_ID)
    provider = IdentityProvider(
        entity_id=found.entity_id,
        certificates=tuple(
            SigningCertificate(der=der, state=CertificateState.TRUSTED, since=LONG_AGO, provenance="metadata")
            for der in found.signing_certificates
        ),
    )
    policy: Policy = policy_for()
    snapshot = snapshot_of(others=((provider, policy),))

    assert found.signing_certificates == ders("idp")
    assert outcome(judged(genuine(idp_of(key="attacker")), snapshot)) == deny("signature_invalid")


def test_entities_in_odd_places() -> None:
    """G06: an entity inside another's extensions, or in something that is no group, is none."""
    inside = one("urn:a", f"<md:Extensions>{one('urn:hidden')}</md:Extensions>")
    beside = f'<x:Group xmlns:x="urn:x">{one("urn:hidden")}</x:Group>'
    data = group(published("2026-01-01T00:00:00Z"), beside, inside, beside, one("urn:b"), beside)

    assert [each.entity_id for each in parse_metadata(data)] == ["urn:a", "urn:b"]
    assert refused(data, "urn:hidden").presented == "urn:a, urn:b"


def test_the_nearest_publication() -> None:
    """The creation instant is the entity's own, else the nearest group's; other roles' and siblings' are not read."""
    data = group(
        published("2026-01-01T00:00:00Z"),
        one("urn:a"),
        one("urn:b", published("2026-01-02T00:00:00Z")),
        f"<md:EntitiesDescriptor>{published('2026-01-03T00:00:00Z')}{one('urn:c')}{one('urn:d')}"
        "</md:EntitiesDescriptor>",
        f"<md:EntitiesDescriptor>{one('urn:e')}</md:EntitiesDescriptor>",
        one("urn:f"),
    )

    days = {each.entity_id: each.created.day if each.created else None for each in parse_metadata(data)}

    assert days == {"urn:a": 1, "urn:b": 2, "urn:c": 3, "urn:d": 3, "urn:e": 1, "urn:f": 1}
    assert [each.created for each in parse_metadata(group(one("urn:a")))] == [None]


def test_the_shortest_cache_duration() -> None:
    """Of all that apply to the IdP the shortest counts; that of another role or entity does not apply."""
    other = f'<md:SPSSODescriptor protocolSupportEnumeration="{n.SAMLP}" cacheDuration="PT1S"/>'
    data = group(
        one("urn:a", attributes=' cacheDuration="PT5H"', role=' cacheDuration="PT4H"'),
        one("urn:b", attributes=' cacheDuration="PT5H"'),
        one("urn:c", other, attributes=' cacheDuration="P2D"'),
        attributes=' cacheDuration="P1D"',
    )

    assert [each.cache_duration for each in parse_metadata(data)] == [
        timedelta(hours=4),
        timedelta(hours=5),
        timedelta(days=1),
    ]


def test_times_that_cannot_be_read() -> None:
    """An unreadable cacheDuration or creationInstant counts as not given and is reported with its place."""
    data = group(
        published("yesterday"),
        one("urn:a", attributes=' cacheDuration="-PT1H"', role=' cacheDuration="PT2H"'),
        attributes=' cacheDuration="1 day"',
    )

    (found,) = parse_metadata(data)

    assert (found.created, found.cache_duration) == (None, timedelta(hours=2))
    assert {(str(each.reason), each.where) for each in found.problems if each.reason != "metadata_no_cert"} == {
        ("metadata_bad_value", "EntityDescriptor.cacheDuration"),
        ("metadata_bad_value", "EntitiesDescriptor.cacheDuration"),
        ("metadata_bad_value", "PublicationInfo.creationInstant"),
    }


FILL = f"<md:Extensions><x:L xmlns:x='urn:x'>{'x' * 1000}</x:L></md:Extensions>"
G08: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    # sentence: (reason, part of what is expected, how to make it)
    "an aggregate of 100 MB": ("metadata_too_large", "83886080 bytes", lambda: b" " * 100_000_000),
    "one entity of 17 MiB as the document": (
        "metadata_too_large",
        "16777216 bytes",
        lambda: (
            one("urn:a", FILL * 17_000)
            .replace("<md:EntityDescriptor", f'<md:EntityDescriptor xmlns:md="{n.MD}"')
            .encode()
        ),
    ),
    "one entity of 60 MB in an aggregate": (
        "xml_limits",
        "4194304 bytes in one part",
        lambda: group(one("urn:a"), one("urn:b", FILL * 57_000)),
    ),
    "60 MB of something else in an aggregate": (
        "xml_limits",
        "4194304 bytes in one part",
        lambda: group(one("urn:a"), FILL * 57_000),
    ),
    "60 MB of no metadata": (
        "xml_limits",
        "16777216 bytes in one part",
        lambda: b"<html>" + (b"<p>" + b"x" * 1000 + b"</p>") * 59_000 + b"</html>",
    ),
    "an entity of many empty elements": (
        "xml_limits",
        "100000 elements in one part",
        lambda: group(one("urn:b", "<md:X/>" * 400_000)),
    ),
    "too many elements in all": ("xml_limits", "5000000 elements", lambda: group("<a/>" * 5_000_001)),
    "1000 KeyDescriptors": (
        "xml_limits",
        "100 KeyDescriptors",
        lambda: group(one("urn:a").replace("></md:IDP", f">{'<md:KeyDescriptor/>' * 1000}</md:IDP")),
    ),
    "1000 KeyDescriptors in other roles": (
        "xml_limits",
        "100 KeyDescriptors",
        lambda: group(one("urn:a", f"<md:RoleDescriptor>{'<md:KeyDescriptor/>' * 1000}</md:RoleDescriptor>")),
    ),
    "1000 broken certificates in one KeyInfo": (
        "xml_limits",
        "100 X509Certificates",
        lambda: group(
            one("urn:a").replace(
                "></md:IDP",
                "><md:KeyDescriptor><ds:KeyInfo><ds:X509Data>"
                f"{'<ds:X509Certificate/>' * 1000}</ds:X509Data></ds:KeyInfo></md:KeyDescriptor></md:IDP",
            )
        ),
    ),
    "8192 levels": ("xml_limits", "normal depth", lambda: group(one("urn:a", "<a>" * 8192 + "</a>" * 8192))),
    "8192 levels between entities": ("xml_limits", "normal depth", lambda: group("<a>" * 8192 + "</a>" * 8192)),
    "8192 nested groups": (
        "xml_limits",
        "",
        lambda: group("<md:EntitiesDescriptor>" * 8192 + "</md:EntitiesDescriptor>" * 8192),
    ),
    "41 levels": ("xml_limits", "40 levels", lambda: group(one("urn:a", "<a>" * 39 + "</a>" * 39))),
    "41 levels between entities": ("xml_limits", "40 levels", lambda: group("<a>" * 40 + "</a>" * 40, one("urn:a"))),
    "41 levels after the entities": ("xml_limits", "40 levels", lambda: group(one("urn:a"), "<a>" * 40 + "</a>" * 40)),
    "41 nested groups": (
        "xml_limits",
        "40 levels",
        lambda: group("<md:EntitiesDescriptor>" * 40 + "</md:EntitiesDescriptor>" * 40),
    ),
    "65 attributes on another entity": (
        "xml_limits",
        "64 attributes",
        lambda: group(one("urn:a"), one("urn:b", attributes="".join(f' a{each}=""' for each in range(64)))),
    ),
    "a long attribute of another entity": (
        "xml_limits",
        "characters in an attribute",
        lambda: group(one("urn:a"), one("urn:b", attributes=f' a="{"x" * 1_100_000}"')),
    ),
    "a long text in another entity": (
        "xml_limits",
        "characters in a text",
        lambda: group(one("urn:a"), one("urn:b", f"<md:X>{'x' * 1_100_000}</md:X>")),
    ),
    "too many namespace declarations": (
        "xml_limits",
        "namespace declarations",
        lambda: group("<a>" + "<b xmlns=''/>" * 1_000_001 + "</a>"),
    ),
}


@pytest.mark.parametrize("name", G08)
def test_what_is_too_large(name: str) -> None:
    """G08: each dimension is bounded, in the entity that is asked for and in all others."""
    reason, expected, make = G08[name]

    finding = refused(make(), "urn:a")

    assert (str(finding.reason), expected in finding.expected) == (reason, True), finding


def test_within_the_limits() -> None:
    """G08: just below the limits an aggregate is read."""
    deep = one("urn:c", "<a>" * 38 + "</a>" * 38)
    attributes = "".join(f' a{each}=""' for each in range(63))
    data = group(one("urn:a"), one("urn:b", FILL * 3_500), deep, one("urn:d", attributes=attributes))

    assert [each.entity_id for each in parse_metadata(data)] == ["urn:a", "urn:b", "urn:c", "urn:d"]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("xml_dtd", lambda data: b"<!DOCTYPE a>" + data),
        ("xml_dtd", lambda data: b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + data),
        ("xml_malformed", lambda data: data.replace(b"Universit", b"&e;", 1)),
        ("xml_encoding", lambda data: data[:-100] + b"\xff" + data[-100:]),
        ("xml_encoding", lambda data: data[:-100] + b"\x0b" + data[-100:]),
        ("xml_encoding", lambda data: data[:-100] + "\uffff".encode() + data[-100:]),
        ("xml_encoding", lambda data: data.replace(b"Universit", b"&#0;", 1)),
        ("xml_encoding", lambda data: b'<?xml version="1.0" encoding="UTF-16"?>' + data),
        ("xml_namespace", lambda data: data.replace(b"<mdui:DisplayName", b'<mdui:DisplayName xmlns:x="rel"', 1)),
        ("xml_malformed", lambda data: data[:-5]),
        ("xml_malformed", lambda data: data[: len(data) // 2]),
        ("xml_malformed", lambda data: data + b"<a/>"),
        ("xml_malformed", lambda data: data + b"x"),
    ],
)
def test_the_same_refusals_as_at_the_door(reason: str, change: Callable[[bytes], bytes]) -> None:
    """G07: what is streamed meets every refusal, also after the entity that is asked for and beyond the first block."""
    data = federation(200)
    assert len(data) > 2_000_000

    assert refused(change(data), name_of(0)).reason == reason


def test_xinclude_is_let_be() -> None:
    """G07: an XInclude is an element of somebody else's: nothing is fetched, and nothing of it counts."""
    include = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    data = group(one("urn:a").replace("></md:IDP", f"><md:KeyDescriptor>{include}</md:KeyDescriptor></md:IDP"))

    (found,) = parse_metadata(data)

    assert found.signing_certificates == ()


@pytest.mark.parametrize("at", range(1, 5))
def test_characters_on_the_border_of_a_block(at: int) -> None:
    """Characters of several bytes are read wherever the blocks are cut."""
    filling = "x" * (1024 * 1024 - at - len("<a>")) + "😀" * 400_000

    found = parse_metadata(group(*(f"<a>{part}</a>" for part in (filling[:700_000], filling[700_000:])), one("urn:a")))

    assert found[0].entity_id == "urn:a"


def test_comments_between_entities() -> None:
    """Comments and processing instructions are left out of what is streamed, as elsewhere."""
    data = (
        b"<!-- a --><?b c?>" + group("<!-- x -->", one("urn:a"), "<!-- <md:EntityDescriptor/> --><?d e?>") + b"<!-- -->"
    )

    assert [each.entity_id for each in parse_metadata(data)] == ["urn:a"]


MEASURED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from idp_certs.metadata import parse_metadata
from idp_certs.reasons import Refused

def kibibytes(member):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(member)).split()[1])

data = Path(sys.argv[2]).read_bytes()
before = kibibytes("VmRSS")
try:
    (found,) = parse_metadata(data, entity_id=sys.argv[3])
    print(len(found.signing_certificates), end=" ")
except Refused as refused:
    print(refused.finding.reason, end=" ")
print(kibibytes("VmHWM"), kibibytes("VmHWM") - before)
"""


def _peak(tmp_path: Path, data: bytes, entity_id: str) -> tuple[str, int, int]:
    """The outcome, the peak of resident memory and its growth, in MB, of reading it in a process of its own."""
    path = tmp_path / "metadata.xml"
    path.write_bytes(data)
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, str(root), str(path), entity_id], check=True, capture_output=True, text=True
    )
    outcome_, peak, growth = ran.stdout.split()
    return outcome_, int(peak) // 1000, int(growth) // 1000


@pytest.mark.platform
@pytest.mark.skipif(not STATUS.exists(), reason="memory is measured by Linux's /proc")
def test_one_entity_of_a_federation_takes_little_memory(tmp_path: Path) -> None:
    """G08: 66 MB with 5,000 IdPs stay below 200 MB in all, the document included."""
    data = federation(5000)
    assert len(data) > 66_000_000

    read, peak, growth = _peak(tmp_path, data, name_of(4999))

    assert read == "1"
    assert peak < 200
    assert growth < 60


@pytest.mark.platform
@pytest.mark.skipif(not STATUS.exists(), reason="memory is measured by Linux's /proc")
@pytest.mark.parametrize("name", ["one entity of 60 MB in an aggregate", "60 MB of no metadata", "8192 levels"])
def test_what_is_too_large_takes_little_memory(tmp_path: Path, name: str) -> None:
    """G08, promise 24: a document that is refused for its size has not filled the memory before."""
    reason, _, make = G08[name]

    read, _, growth = _peak(tmp_path, make(), "urn:a")

    assert read == reason
    assert growth < 120


def test_limits_of_documents() -> None:
    """80 MiB for a federation's document, 16 MiB for that of one entity."""
    assert AGGREGATE_LIMITS.document == 80 * 1024 * 1024
    assert METADATA_LIMITS.document == 16 * 1024 * 1024
