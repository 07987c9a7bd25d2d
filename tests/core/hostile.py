"""Documents that want to cost much, reach out or be read in two ways. Each is refused; none may cost."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from tests.core.given import OKTA, genuine, idp_of

XML = genuine()
STATUS = b"</samlp:Status>"


def inside(content: bytes) -> bytes:
    """The genuine document with this content beside its assertion."""
    return XML.replace(STATUS, STATUS + content, 1)


def with_declarations(data: bytes, element: bytes, declarations: bytes) -> bytes:
    """The document with more on its first element of this name."""
    return data.replace(element, element + declarations, 1)


def _lol() -> bytes:
    entities = "".join(
        f'<!ENTITY l{each} "{f"&l{each - 1};" * 10}">' if each else '<!ENTITY l0 "lol">' for each in range(10)
    )
    return f"<!DOCTYPE a [{entities}]><a>&l9;</a>".encode()


def _prefix_list(prefixes: int) -> bytes:
    """Canonicalization of SignedInfo that is to look up thousands of prefixes among hundreds of declarations."""
    data = genuine(idp_of(OKTA))
    declared = b"".join(b' xmlns:n%d="u:%d"' % (each, each) for each in range(480))
    names = b" ".join(b"n%d" % (479 - each % 480) for each in range(prefixes))[:8100]
    method = b'<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>'
    assert data.count(method) == 2
    listed = b'<ec:InclusiveNamespaces xmlns:ec="http://www.w3.org/2001/10/xml-exc-c14n#" PrefixList="' + names + b'"/>'
    data = data.replace(method, method[:-2] + b">" + listed + b"</ds:CanonicalizationMethod>")
    return with_declarations(data, b"<saml2p:Response", declared)


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    # sentence: (reason, how to make it)
    "a DTD": ("xml_dtd", lambda: b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'>" + XML),
    "a DTD in a file": ("xml_dtd", lambda: b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + XML),
    "an entity bomb": ("xml_dtd", _lol),
    "a quadratic entity": (
        "xml_dtd",
        lambda: b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 50_000 + b'">]><a>' + b"&b;" * 50_000 + b"</a>",
    ),
    "an external entity": (
        "xml_dtd",
        lambda: b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + inside(b"<a>&b;</a>"),
    ),
    "a parameter entity": (
        "xml_dtd",
        lambda: b'<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:9/">%b;]>' + XML,
    ),
    "depth 10 000": ("xml_limits", lambda: b"<a>" * 10_000 + b"</a>" * 10_000),
    "depth 4 900": ("xml_limits", lambda: b"<a>" * 4_900 + b"</a>" * 4_900),
    "depth 200": ("xml_limits", lambda: inside(b"<a>" * 200 + b"</a>" * 200)),
    "a million attributes": (
        "evidence_too_large",
        lambda: b"<a " + b" ".join(b'a%d=""' % each for each in range(1_000_000)) + b"/>",
    ),
    "attributes up to the limit": (
        "xml_limits",
        lambda: b"<a " + b" ".join(b'a%d=""' % each for each in range(25_000)) + b"/>",
    ),
    "namespaces up to the limit": (
        "xml_limits",
        lambda: b"<a " + b" ".join(b'xmlns:a%d="u:"' % each for each in range(12_000)) + b"/>",
    ),
    "elements up to the limit": ("xml_limits", lambda: b"<a>" + b"<b/>" * 60_000 + b"</a>"),
    "one byte too large": ("evidence_too_large", lambda: XML + b" " * (256 * 1024 + 1 - len(XML))),
    "ten megabytes": ("evidence_too_large", lambda: XML + b" " * 10_000_000),
    "gzip": ("xml_encoding", lambda: gzip.compress(XML, mtime=0) + b"<"),
    "a gzip bomb": ("evidence_encoding", lambda: gzip.compress(b"\0" * 20_000_000, mtime=0).replace(b"<", b"=")),
    "UTF-16": ("xml_encoding", lambda: XML.decode().encode("utf-16")),
    "UTF-32": ("xml_encoding", lambda: XML.decode().encode("utf-32")),
    "UTF-7": (
        "xml_encoding",
        lambda: b'<?xml version="1.0" encoding="UTF-7"?>' + XML.replace(b"<", b"+ADw-").replace(b">", b"+AD4-"),
    ),
    "cut short": ("xml_malformed", lambda: XML[:-100]),
    "a stylesheet": ("xml_comment_or_pi", lambda: b'<?xml-stylesheet href="http://127.0.0.1:9/"?>' + XML),
    "an XInclude": (
        "assertion_count",
        lambda: inside(b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>').replace(
            b"Assertion", b"Absertion"
        ),
    ),
    "a schema location": (
        "digest_mismatch",
        lambda: with_declarations(
            XML,
            b"<Assertion",
            b' xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:schemaLocation="urn:a http://127.0.0.1:9/"',
        ),
    ),
    "a reference that asks to be fetched": (
        "reference_uri",
        lambda: XML.replace(b'URI="#_a1"', b'URI="http://127.0.0.1:9/"'),
    ),
    "a transform that asks to be run": (
        "transform_forbidden",
        lambda: XML.replace(
            b"http://www.w3.org/2000/09/xmldsig#enveloped-signature", b"http://www.w3.org/TR/1999/REC-xslt-19991116"
        ),
    ),
    "character references": ("assertion_count", lambda: inside(b"&#x41;" * 20_000).replace(b"Assertion", b"Absertion")),
    "thousands of parts of signatures": (
        "signature_placement",
        lambda: inside(b'<d:X xmlns:d="http://www.w3.org/2000/09/xmldsig#">' + b"<d:Y/>" * 4_900 + b"</d:X>"),
    ),
}

COSTLY: dict[str, tuple[str, Callable[[], bytes]]] = {
    "words that look like declarations": (
        "not_a_response",
        lambda: b"<a>" + b"xmlns:" * 505 + b"x" * 190_000 + b"</a>",
    ),
    "words that look like declarations, apart": (
        "not_a_response",
        lambda: b"<a>" + b"xmlns xmlns:a" * 250 + b" " * 190_000 + b"</a>",
    ),
    "references to characters": ("not_a_response", lambda: b"<a>" + b"&#9;" * 50_000 + b"</a>"),
    "thousands of prefixes to look up": ("c14n_forbidden", lambda: _prefix_list(2_700)),
}
