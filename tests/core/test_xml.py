"""The XML door: each limit is exact, and each kind of unwanted XML has its reason."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from idp_certs.reasons import Refused
from idp_certs.xml import EVIDENCE_LIMITS, XmlLimits, parse_xml

OPEN = XmlLimits(document=10_000_000, elements=100_000, text_length=10_000_000, attribute_length=1_000_000)


def reason(data: bytes, limits: XmlLimits = EVIDENCE_LIMITS) -> str | None:
    """Why `data` is refused; None where it is not."""
    try:
        parse_xml(data, limits)
    except Refused as refused:
        return str(refused.finding.reason)
    return None


_AT_AND_OVER = {
    # sentence: (name of the limit, its value, document at the limit, document one over)
    "bytes": ("document", 100, b"<a>" + b"x" * 93 + b"</a>", b"<a>" + b"x" * 94 + b"</a>"),
    "elements": ("elements", 10, b"<a>" + b"<b/>" * 9 + b"</a>", b"<a>" + b"<b/>" * 10 + b"</a>"),
    "depth": ("depth", 5, b"<a>" * 5 + b"</a>" * 5, b"<a>" * 6 + b"</a>" * 6),
    "attributes": ("attributes_per_element", 2, b'<a b="" c=""/>', b'<a b="" c="" d=""/>'),
    "attribute length": ("attribute_length", 50, b'<a b="' + b"x" * 50 + b'"/>', b'<a b="' + b"x" * 51 + b'"/>'),
    "text length": ("text_length", 50, b"<a>" + b"x" * 50 + b"</a>", b"<a>" + b"x" * 51 + b"</a>"),
    "namespaces": (
        "namespace_declarations",
        2,
        b'<a xmlns:b="u:b" xmlns:c="u:c"/>',
        b'<a xmlns:b="u:b" xmlns:c="u:c" xmlns:d="u:d"/>',
    ),
}


@pytest.mark.parametrize("name", _AT_AND_OVER)
def test_limits_are_exact(name: str) -> None:
    """A document at a limit is read and one over it is refused, by that limit alone."""
    member, value, at, over = _AT_AND_OVER[name]
    limit: dict[str, Any] = {member: value}
    limits = replace(OPEN, **limit)

    assert reason(at, limits) is None
    assert reason(over, limits) == "xml_limits"
    assert reason(over, OPEN) is None


@pytest.mark.parametrize(
    ("at", "over"),
    [
        pytest.param(b"<a>" * 40 + b"</a>" * 40, b"<a>" * 41 + b"</a>" * 41, id="depth 40"),
        pytest.param(b"<a>" + b"<b/>" * 4999 + b"</a>", b"<a>" + b"<b/>" * 5000 + b"</a>", id="5000 elements"),
        pytest.param(
            b"<a>" + (b"x" * 199_999 + b"<b/>") + b"y" * (262_144 - 199_999 - 11) + b"</a>",
            b"<a>" + (b"x" * 199_999 + b"<b/>") + b"y" * (262_144 - 199_999 - 10) + b"</a>",
            id="256 KiB",
        ),
        pytest.param(
            b'<a b="' + "é".encode() * 8192 + b'"/>',
            b'<a b="' + b"x" * 8193 + b'"/>',
            id="8192 of attribute",
        ),
        pytest.param(
            b"<a>" + b"x" * 204_800 + b"</a>", b"<a>" + b"x" * 204_801 + b"</a>", id="204800 characters of text"
        ),
    ],
)
def test_the_limits_of_evidence(at: bytes, over: bytes) -> None:
    """The limits that hold where nothing else is said."""
    assert reason(at) is None
    assert reason(over) == "xml_limits"


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        ("xml_encoding", "<a/>".encode("utf-16")),
        ("xml_encoding", "<a/>".encode("utf-16-le")),
        ("xml_encoding", "<a/>".encode("utf-32")),
        ("xml_encoding", "<a>é</a>".encode("latin-1")),
        ("xml_encoding", b'<?xml version="1.0" encoding="UTF-16"?><a/>'),
        ("xml_encoding", b'<?xml version="1.0" encoding="UTF-7"?>+ADw-a/+AD4-'),
        ("xml_encoding", b'<?xml version="1.0" encoding="ISO-8859-1"?><a/>'),
        ("xml_encoding", b'<?xml version="1.1"?><a/>'),
        ("xml_encoding", b"<a>\x00</a>"),
        ("xml_encoding", b"<a>\x0b</a>"),
        ("xml_encoding", b"<a>\xef\xbf\xbe</a>"),
        ("xml_encoding", b"<a>\xed\xa0\x80</a>"),
        ("xml_encoding", b"<a>&#0;</a>"),
        ("xml_encoding", b"<a>&#x1f;</a>"),
        ("xml_encoding", b"<a>&#xD800;</a>"),
        ("xml_encoding", b"<a>&#xFFFE;</a>"),
        ("xml_encoding", b"<a>&#x110000;</a>"),
        ("xml_encoding", b"<a>&#99999999999999999999;</a>"),
        ("xml_encoding", gzip.compress(b"<a/>", mtime=0)),
        ("xml_dtd", b"<!DOCTYPE a><a/>"),
        ("xml_dtd", b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'),
        ("xml_dtd", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        ("xml_dtd", b'<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1/">%b;]><a/>'),
        ("xml_dtd", b"\xef\xbb\xbf<!DOCTYPE a><a/>"),
        ("xml_dtd", b"<a><!doctype b></a>"),
        ("xml_malformed", b"<a>&b;</a>"),
        ("xml_malformed", b""),
        ("xml_malformed", b"a"),
        ("xml_malformed", b"<a>"),
        ("xml_malformed", b"<a/><b/>"),
        ("xml_malformed", b"<a/>b"),
        ("xml_malformed", b"<a b='1' b='2'/>"),
        ("xml_malformed", b"<a:b/>"),
        ("xml_malformed", b" <?xml version='1.0'?><a/>"),
        ("xml_malformed", b"<?xml version='1.0' standalone='maybe'?><a/>"),
        ("xml_malformed", b"<?xml encoding='UTF-8'?><a/>"),
        ("xml_malformed", b"<a>]]></a>"),
        ("xml_malformed", b"<a xmlns:x='u:1' xmlns:y='u:1' x:b='' y:b=''/>"),
        ("xml_comment_or_pi", b"<a>b<!-- -->c</a>"),
        ("xml_comment_or_pi", b"<!-- --><a/>"),
        ("xml_comment_or_pi", b"<a/><!-- -->"),
        ("xml_comment_or_pi", b"<a><?b c?></a>"),
        ("xml_comment_or_pi", b"<?b c?><a/>"),
        ("xml_comment_or_pi", b"<a/><?b c?>"),
        ("xml_namespace", b'<a xmlns="relative"/>'),
        ("xml_namespace", b'<a xmlns:b="relative"/>'),
        ("xml_namespace", b"<a><b xmlns:c='./x'/></a>"),
        ("xml_namespace", b'<a b=\'xmlns="u:1"\' xmlns="relative"/>'),
        ("xml_namespace", b'<a xmlns:xmlns2="relative"/>'),
        ("xml_namespace", b'<a xmlns\n:b="u:1"/>'.replace(b"\n:", b":").replace(b"u:1", b"//host/x")),
    ],
)
def test_what_is_refused(expected: str, data: bytes) -> None:
    """Each kind of XML that SAML never needs is refused for its own reason."""
    assert reason(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"<a/>",
        b"\xef\xbb\xbf<a/>",
        b'<?xml version="1.0"?><a/>',
        b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8" standalone=\'yes\' ?>\r\n<a/>\n',
        b"<a><![CDATA[<!-- no comment <?no pi?> -->]]></a>",
        b"<a>&lt;&amp;&#x41;&#9;&#x1F600;</a>",
        b'<a xmlns="u:1"><b xmlns=""/></a>',
        b'<a b="xmlns" xmlnsx="relative">xmlns="relative"</a>',
        b"<a b='&lt;!--'/>",
    ],
)
def test_what_is_read(data: bytes) -> None:
    """Unusual XML that means just one thing is read."""
    assert parse_xml(data).tag in ("a", "{u:1}a")


def test_a_comment_that_is_let_be_cuts_no_text() -> None:
    """Where comments are allowed they are left out of the tree, so that a value is never split at one."""
    root = parse_xml(b"<!-- --><a>b<!-- -->c<?d e?>f</a><!-- -->", replace(EVIDENCE_LIMITS, comments=True))

    assert root.text == "bcf"
    assert len(root) == 0
    assert etree.tostring(root.getroottree()) == b"<a>bcf</a>"


def test_an_attribute_flood_on_an_element() -> None:
    """More attributes on one element than any genuine one has."""
    names = b" ".join(b'a%d=""' % number for number in range(64))

    assert reason(b"<a " + names + b"/>") is None
    assert reason(b"<a " + names + b' b=""/>') == "xml_limits"
