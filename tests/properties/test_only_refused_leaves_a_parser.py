"""Law: whatever the bytes, a parser or verifier gives its value or raises its one documented exception."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from evidence_service.access.decide import decide
from evidence_service.access.evidence import parse_response, read_evidence
from evidence_service.access.model import Allow, Deny
from evidence_service.access.policy import PolicyError, dump_policy, parse_policy
from evidence_service.access.verify import verify_evidence
from evidence_service.demo.idp import MD, PROFILES
from idp_certs.certificates import parse_certificate
from idp_certs.instants import parse_instant
from idp_certs.metadata import parse_metadata
from idp_certs.reasons import Refused
from idp_certs.xml import parse_xml
from tests.core.given import NOW, P, idp_of, policy_for, request_of, snapshot_of
from tests.corpus import keys
from tests.properties.given import all_documents, examples, grown, mutated

SNAPSHOT = snapshot_of()
METADATA = tuple(idp_of(profile).metadata() for profile in PROFILES)
POLICY = dump_policy(policy_for())
DER = keys.certificate("idp")

documents = st.sampled_from(all_documents())
anything = st.one_of(st.binary(max_size=300), mutated(documents), grown(P + "Response"))


def _judge_all(data: bytes) -> None:
    for parse in (parse_xml, parse_response, lambda each: read_evidence((each,)), parse_metadata):
        call: Callable[[bytes], object] = parse
        with suppress(Refused):
            call(data)
    for evidence in (data, base64.b64encode(data)):
        with suppress(Refused):
            verify_evidence((evidence,), SNAPSHOT)
        assert isinstance(decide(request_of(evidence), SNAPSHOT, NOW), Allow | Deny)


@examples(250)
@given(anything)
@example(b"")
@example(b"<")
@example(b"\xef\xbb\xbf")
@example(b'<a xmlns="x"/>')
@example(b"<a>xmlns<b xmlns:c='c'/></a>")
@example(b"\x1f\x8b\x08\x00<")
def test_evidence(data: bytes) -> None:
    """Evidence of any bytes is refused by name or judged; nothing else happens."""
    _judge_all(data)


@examples(150)
@given(st.one_of(mutated(st.sampled_from(METADATA)), grown(f"{{{MD}}}EntityDescriptor")))
def test_metadata(data: bytes) -> None:
    """Metadata of any bytes is refused by name or read."""
    with suppress(Refused):
        assert parse_metadata(data)


@examples(300)
@given(
    st.one_of(
        st.text(max_size=40),
        mutated(st.just(DER)).map(lambda der: base64.b64encode(der).decode()),
        mutated(st.just(base64.b64encode(DER))).map(lambda text: text.decode("latin-1")),
    )
)
def test_certificate(text: str) -> None:
    """A certificate text of any characters is ValueError or DER."""
    with suppress(ValueError):
        assert parse_certificate(text)


@examples(300)
@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d\d:\d\d)", fullmatch=True),
        st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]+)?Z", fullmatch=True),
    )
)
@example("0000-01-01T00:00:00Z")
@example("2026-02-30T00:00:00Z")
@example("２０２６-01-01T00:00:00Z")
def test_instant(text: str) -> None:
    """A time of any characters is ValueError or an aware instant in UTC."""
    with suppress(ValueError):
        assert parse_instant(text).utcoffset() is not None


_toml_values = st.sampled_from(
    (
        '""',
        '"8h"',
        '"nameid"',
        '["a"]',
        "[]",
        "{}",
        '[{from = "@a", to = "@b"}]',
        '[{from = 1, to = ""}]',
        "[[1]]",
        "1",
        "-0",
        "nan",
        "1e400",
        "true",
        "2026-01-01",
        "99:99:99",
        '"\\uD800"',
        '"9999999d"',
        '"999999d"',
    )
)
_members = st.sampled_from([line.split(" = ")[0] for line in POLICY.splitlines()] + ["x"])
_toml_lines = st.builds("{} = {}".format, _members, _toml_values)


@examples(300)
@given(
    st.one_of(
        st.text(max_size=60),
        mutated(st.just(POLICY.encode())).map(lambda data: data.decode("utf-8", "replace")),
        st.lists(_toml_lines, max_size=3).map("\n".join),
    )
)
def test_policy(text: str) -> None:
    """A policy text of any characters is PolicyError or a policy."""
    with suppress(PolicyError):
        parse_policy(text)
