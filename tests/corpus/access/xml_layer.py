"""The XML layer: bytes, encodings, declarations, comments, namespaces, limits."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

from lxml import etree

from tests.corpus import names as n
from tests.corpus.build import case, given
from tests.corpus.good import Launch, alone, extensions
from tests.corpus.model import BugType
from tests.corpus.names import qname
from tests.corpus.sign import EMPTY_SHA256, PLAIN_TRANSFORMS, How, Transform, below, element

DIFFERENTIAL = BugType.PARSER_DIFFERENTIAL
DOS = BugType.DENIAL_OF_SERVICE
SSRF = BugType.SERVER_SIDE_REQUEST

NAME_ID = "saml:Assertion/saml:Subject/saml:NameID"
UPN_VALUE = "saml:Assertion/saml:AttributeStatement/saml:Attribute/saml:AttributeValue"


def genuine() -> bytes:
    """The genuine message, assertion signed."""
    return Launch().sign().wire()


def in_name_id(inside: bytes) -> bytes:
    """The genuine message with bytes put into NameID's text."""
    return genuine().replace(b">alice@corp.example</saml:NameID>", b">" + inside + b"alice@corp.example</saml:NameID>")


def in_response(inside: bytes) -> bytes:
    """The genuine message with further attributes on the Response."""
    return genuine().replace(b"<samlp:Response ", b"<samlp:Response " + inside + b" ", 1)


def with_extension(inside: bytes) -> bytes:
    """The genuine message with bytes in samlp:Extensions."""
    launch = Launch().sign().add(".", extensions(element("saml:AttributeValue")), 1)
    return launch.wire().replace(b"<saml:AttributeValue/>", inside, 1)


def nested_entities(start: str = "lol") -> bytes:
    """A DOCTYPE with ten nested entities of ten references."""
    lines = [f'<!ENTITY e0 "{start}">']
    lines += [f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10)]
    return f"<!DOCTYPE r [{''.join(lines)}]>".encode()


@case("C01", deny="xml_dtd", bug=DIFFERENTIAL, origin="CVE-2016-10149 class")
def c01_internal_entity() -> bytes:
    """A DOCTYPE with an internal entity that makes up the name."""
    return b'<!DOCTYPE r [<!ENTITY e "admin">]>' + in_name_id(b"&e;")


@case(
    "C01", deny="xml_dtd", bug=DIFFERENTIAL, each={"upper": b"<!DOCTYPE r>", "blank": b"<!DOCTYPE\nr\n>", "late": b""}
)
def c01_doctype_alone(doctype: bytes) -> bytes:
    """A DOCTYPE that declares nothing, before the genuine message:"""
    return (doctype or b" " * 5000 + b"<!DOCTYPE r []>") + genuine()


@case("C02", deny="xml_dtd", bug=SSRF, origin="CVE-2016-10127, CVE-2016-10149, CVE-2017-1000061")
def c02_external_entity() -> bytes:
    """An external entity that reads a file."""
    return b'<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + in_name_id(b"&e;")


@case("C03", deny="xml_dtd", bug=SSRF, origin="CVE-2017-1000061", each={"system": b"SYSTEM", "public": b'PUBLIC "x"'})
def c03_external_dtd(kind: bytes) -> bytes:
    """An external DTD by HTTP:"""
    return b"<!DOCTYPE r " + kind + b' "http://127.0.0.1:9/x.dtd">' + genuine()


@case("C04", deny="xml_dtd", bug=SSRF)
def c04_parameter_entity() -> bytes:
    """A parameter entity by HTTP."""
    return b'<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>' + genuine()


@case("C05", deny="xml_dtd", bug=DOS, origin="CVE-2003-1564 class")
def c05_billion_laughs_in_text() -> bytes:
    """Ten nested entities of ten references, used in a text."""
    return nested_entities() + in_name_id(b"&e9;")


@case("C05", deny="xml_dtd", bug=DOS, origin="CVE-2003-1564 class")
def c05_billion_laughs_in_an_attribute() -> bytes:
    """Ten nested entities of ten references, used in an attribute."""
    return nested_entities() + in_response(b'Consent="&e9;"')


@case("C06", deny="xml_dtd", bug=DOS)
def c06_quadratic_blow_up() -> bytes:
    """An entity of 50 kB referenced a thousand times in an attribute."""
    doctype = b'<!DOCTYPE r [<!ENTITY e "' + b"a" * 50_000 + b'">]>'
    return doctype + genuine().replace(b'ID="_response1"', b'ID="' + b"&e;" * 1000 + b'"')


@case("C07", deny="xml_dtd", both=True, bug=BugType.WRAPPING)
def c07_attribute_default() -> bytes:
    """A DTD gives a decoy element the signed ID by a default value."""
    return b'<!DOCTYPE samlp:Response [<!ATTLIST saml:Assertion ID ID "_assert1">]>' + genuine()


@case("C08", deny=("xml_malformed", "xml_dtd"), bug=DIFFERENTIAL, each={"nbsp": b"&nbsp;", "unknown": b"&e;"})
def c08_undeclared_entity(reference: bytes) -> bytes:
    """A reference to an entity that nobody declared:"""
    return in_name_id(reference)


@case("C09", deny="xml_encoding", bug=DIFFERENTIAL, each={"le": "utf-16-le", "be": "utf-16-be"})
def c09_utf_16_with_doctype(codec: str) -> bytes:
    """The document in UTF-16 with a byte order mark and a DOCTYPE, which a scan of bytes misses."""
    mark = "\ufeff".encode(codec)
    return mark + ('<!DOCTYPE r [<!ENTITY e "x">]>' + genuine().decode()).encode(codec)


@case(
    "C10",
    deny="xml_encoding",
    bug=DIFFERENTIAL,
    each={
        "utf_16_with_mark": "utf-16",
        "utf_16_le": "utf-16-le",
        "utf_16_be": "utf-16-be",
        "utf_32": "utf-32",
    },
)
def c10_other_unicode_encoding(codec: str) -> bytes:
    """The document in another Unicode encoding than UTF-8, without DOCTYPE:"""
    text = genuine().decode()
    if codec == "utf-16":
        return "\ufeff".encode("utf-16-le") + text.encode("utf-16-le")
    if codec == "utf-32":
        return "\ufeff".encode("utf-32-le") + text.encode("utf-32-le")
    declared = f'<?xml version="1.0" encoding="{codec[:6].upper()}"?>'
    return (declared + text).encode(codec)


@case(
    "C11",
    deny="xml_encoding",
    bug=DIFFERENTIAL,
    each={
        "utf_7": given("UTF-7", label="C11a"),
        "latin_1": given("ISO-8859-1", label="C11b"),
        "windows_1252": given("windows-1252", label="C11c"),
        "ascii": given("US-ASCII", label="C11d"),
        "utf_16": given("UTF-16", label="C11e"),
        "ebcdic": given("IBM037", label="C11f"),
        "unknown": given("x-unknown", label="C11g"),
        "ucs_4": given("ISO-10646-UCS-4", label="C11h"),
    },
)
def c11_declared_encoding(name: str) -> bytes:
    """An ASCII document that declares the encoding:"""
    return f'<?xml version="1.0" encoding="{name}"?>'.encode() + genuine()


@case(
    "C11", deny=("xml_encoding", "xml_malformed"), bug=DIFFERENTIAL, each={"empty": "", "blank": " UTF-8", "dash": "-"}
)
def c11_bad_encoding_name(name: str) -> bytes:
    """The declared encoding is not a name at all:"""
    return f'<?xml version="1.0" encoding="{name}"?>'.encode() + genuine()


@case("C12", deny="xml_encoding", bug=DIFFERENTIAL, each={"1.1": "1.1", "1.2": "1.2", "2.0": "2.0", "1": "1"})
def c12_xml_version(version: str) -> bytes:
    """The XML declaration says version:"""
    return f'<?xml version="{version}"?>'.encode() + genuine()


@case(
    "C13",
    deny="xml_encoding",
    bug=DIFFERENTIAL,
    each={
        "nul": b"\x00",
        "nul_reference": b"&#0;",
        "control": b"\x01",
        "control_reference": b"&#x1;",
        "backspace": b"\x08",
        "form_feed": b"\x0c",
        "escape_reference": b"&#27;",
        "noncharacter": b"\xef\xbf\xbe",
        "noncharacter_reference": b"&#xFFFF;",
        "surrogate_reference": b"&#xD800;",
        "beyond_unicode_reference": b"&#x110000;",
        "huge_reference": b"&#99999999999999999999;",
    },
)
def c13_forbidden_character(inside: bytes) -> bytes:
    """NameID holds a character that XML 1.0 forbids:"""
    return in_name_id(inside)


@case("C14", deny="xml_limits", bug=DOS, each={"60": 60, "250": 250, "2000": 2000})
def c14_deep(levels: int) -> bytes:
    """Elements are nested this deep:"""
    return with_extension(b"<x>" * levels + b"</x>" * levels)


@case("C14", allow=True)
def c14_moderately_deep() -> bytes:
    """Elements are nested 20 levels deep in Extensions, which is odd and harmless."""
    return with_extension(b"<x>" * 20 + b"</x>" * 20)


@case("C15", deny="xml_limits", bug=DOS)
def c15_many_elements() -> bytes:
    """Ten thousand elements in Extensions."""
    return with_extension(b"<x/>" * 10_000)


@case("C15", deny="xml_limits", bug=DOS)
def c15_many_elements_in_the_assertion() -> Launch:
    """An assertion, genuinely signed, with more than five thousand attribute values."""
    launch = Launch()
    holder = element("saml:Attribute", Name="groups")
    for _ in range(5100):
        below(holder, "saml:AttributeValue", "g")
    return launch.add("saml:Assertion/saml:AttributeStatement", holder).sign()


@case("C15", allow=True)
def c15_many_groups() -> Launch:
    """An assertion with a thousand group memberships, as large directories make them."""
    launch = Launch()
    holder = element("saml:Attribute", Name="groups")
    for number in range(1000):
        below(holder, "saml:AttributeValue", f"CN=Group {number:04d},OU=Groups,DC=corp,DC=example")
    return launch.add("saml:Assertion/saml:AttributeStatement", holder).sign()


@case("C16", deny="xml_limits", bug=DOS, each={"100": 100, "5000": 5000})
def c16_many_attributes(count: int) -> bytes:
    """One element has this many attributes:"""
    return in_response(b" ".join(b'a%d=""' % number for number in range(count)))


@case("C16", deny="xml_limits", bug=DOS)
def c16_long_attribute() -> bytes:
    """An attribute value of 20,000 characters."""
    return in_response(b'Consent="' + b"a" * 20_000 + b'"')


@case("C16", deny=("xml_limits", "xml_malformed"), bug=DOS)
def c16_long_name() -> bytes:
    """An element name of 60,000 characters."""
    return with_extension(b"<" + b"a" * 60_000 + b"/>")


@case("C17", deny=("xml_limits", "evidence_too_large"), bug=DOS, each={"600": 600, "6000": 6000})
def c17_many_namespaces(count: int) -> bytes:
    """This many namespace declarations on one element:"""
    return in_response(b" ".join(b'xmlns:n%d="urn:x:%d"' % (number, number) for number in range(count)))


@case("C17", deny=("xml_limits", "evidence_too_large"), bug=DOS)
def c17_namespace_redeclared_on_many_elements() -> bytes:
    """Four thousand elements that each declare a namespace again."""
    return with_extension(b'<x xmlns:q="urn:q"/>' * 4000)


@case("C17", deny="evidence_too_large", bug=DOS, each={"blanks": b" "})
def c17_too_large(filler: bytes) -> bytes:
    """More than 256 KiB, filled with:"""
    return genuine() + filler * (257 * 1024)


@case("C17", deny="evidence_too_large", bug=DOS)
def c17_too_large_in_base64() -> bytes:
    """More than 256 KiB after decoding base64."""
    return base64.b64encode(genuine() + b" " * (253 * 1024))


@case("C17", allow=True)
def c17_just_small_enough() -> bytes:
    """256 KiB exactly, most of it blanks after the document element."""
    octets = genuine()
    return octets + b" " * (256 * 1024 - len(octets))


COMMENT_CVES = "CVE-2017-11427, CVE-2017-11428, CVE-2017-11429, CVE-2017-11430, CVE-2018-0489, VU#475445"


@case("C18", deny="xml_comment_or_pi", bug=DIFFERENTIAL, origin=COMMENT_CVES)
def c18_comment_in_name_id() -> bytes:
    """NameID was signed as a longer name and is cut by a comment that canonicalization drops."""
    launch = Launch(name_id="alice@corp.example.evil.example", upn="alice@corp.example.evil.example").sign()
    return launch.wire().replace(b"alice@corp.example.evil.example", b"alice@corp.example<!---->.evil.example")


@case("C19", deny="xml_comment_or_pi", bug=DIFFERENTIAL, origin="CVE-2017-11427 family")
def c19_comment_in_the_upn_attribute() -> bytes:
    """Only the UPN's AttributeValue is cut by a comment."""
    launch = Launch(upn="alice@corp.example.evil.example").sign()
    return launch.wire().replace(b"alice@corp.example.evil.example", b"alice@corp.example<!-- x -->.evil.example")


@case(
    "C19",
    deny="xml_comment_or_pi",
    bug=DIFFERENTIAL,
    each={
        "before_root": lambda octets: b"<!-- x -->" + octets,
        "after_root": lambda octets: octets + b"<!-- x -->",
        "in_issuer": lambda octets: octets.replace(b"https://idp.example", b"https://<!-- x -->idp.example"),
        "in_status": lambda octets: octets.replace(b"<samlp:Status>", b"<samlp:Status><!-- x -->"),
        "in_audience": lambda octets: octets.replace(b"https://gw.example<", b"https://<!---->gw.example<"),
    },
)
def c19_comment_elsewhere(act: Callable[[bytes], bytes]) -> bytes:
    """A comment stands:"""
    return act(genuine())


@case("C20", deny="xml_comment_or_pi", both=True, bug=DIFFERENTIAL, origin="OneUptime 2988, xml-crypto up to 6.1.2")
def c20_processing_instruction_in_name_id() -> Launch:
    """NameID begins with a processing instruction that some canonicalizers write as text."""
    launch = Launch(name_id=n.ADMIN).sign()
    holder = launch.find(NAME_ID)
    holder.text = None
    instruction = etree.ProcessingInstruction("p", "not-an-")
    instruction.tail = n.ADMIN
    holder.append(instruction)
    return launch


@case("C21", deny="upn_mismatch", alone=False, bug=DIFFERENTIAL)
def c21_cdata_split() -> bytes:
    """The UPN begins with a CDATA section; the value is the whole text and never cut at its end."""
    launch = Launch(upn="alice@corp.example.evil.example", name_id="alice@corp.example.evil.example").sign()
    return launch.wire().replace(b"alice@corp.example.evil.example", b"<![CDATA[alice@corp.example]]>.evil.example")


@case("C22", deny="xml_comment_or_pi", bug=SSRF)
def c22_stylesheet() -> bytes:
    """An xml-stylesheet instruction before the document element."""
    return b'<?xml-stylesheet href="http://127.0.0.1:9/x.xsl" type="text/xsl"?>' + genuine()


@case(
    "C23",
    deny="xml_comment_or_pi",
    bug=DIFFERENTIAL,
    each={
        "after_root": lambda octets: octets + b"<?p x?>",
        "in_signature": lambda octets: octets.replace(b"<ds:SignatureValue>", b"<ds:SignatureValue><?p x?>"),
        "in_upn": lambda octets: octets.replace(b"<saml:AttributeValue>", b"<saml:AttributeValue><?p x?>"),
        "after_declaration": lambda octets: b'<?xml version="1.0"?><?p x?>' + octets,
    },
)
def c23_processing_instruction(act: Callable[[bytes], bytes]) -> bytes:
    """A processing instruction stands:"""
    return act(genuine())


GOLDEN = How(digested=b"", digest_value=EMPTY_SHA256)


@case("C24", deny="xml_namespace", both=True, bug=DIFFERENTIAL, origin="CVE-2025-66475")
def c24_golden_response() -> bytes:
    """A genuine signature over the empty digest, and a relative namespace name at which canonicalization fails."""
    launch = Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(GOLDEN)
    return launch.wire().replace(b"<saml:Assertion ", b'<saml:Assertion xmlns:r="1" ', 1)


@case(
    "C24",
    deny="xml_namespace",
    bug=DIFFERENTIAL,
    each={
        "number": b"1",
        "path": b"a/b",
        "dot": b"./x",
        "root": b"/x",
        "fragment": b"#x",
        "host": b"//host/x",
        "dots": b"..",
    },
)
def c24_relative_namespace(name: bytes) -> bytes:
    """The Response, outside the signature, declares the relative namespace name:"""
    return in_response(b'xmlns:r="' + name + b'"')


@case("C24", deny="xml_namespace", bug=DIFFERENTIAL)
def c24_relative_namespace_in_use() -> bytes:
    """An element in Extensions is in a relative namespace, declared by character references."""
    return with_extension(b'<x xmlns="&#x2e;/x"/>')


@case("C25", deny="digest_mismatch", both=True, bug=BugType.SIGNATURE_BYPASS, origin="CVE-2025-66475")
def c25_empty_digest() -> Launch:
    """A genuine signature over the digest of nothing, without a relative namespace name."""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(GOLDEN)


@case(
    "C26",
    deny="xml_malformed",
    bug=DIFFERENTIAL,
    origin="CVE-2025-66567, namespace confusion",
    each={
        "xml_elsewhere": given(b'xmlns:xml="urn:evil"', label="C26a"),
        "xmlns_declared": given(b'xmlns:xmlns="urn:evil"', label="C26b"),
        "prefix_for_xml": given(b'xmlns:a="http://www.w3.org/XML/1998/namespace"', label="C26c"),
        "empty": given(b'xmlns:a=""', label="C26d"),
        "prefix_for_xmlns": given(b'xmlns:a="http://www.w3.org/2000/xmlns/"', label="C26e"),
        "undeclared_prefix": given(b'b:a="x"', label="C26f"),
        "prefix_twice": given(b'xmlns:a="urn:a" xmlns:a="urn:b"', label="C26g"),
        "attribute_twice": given(b'Consent="a" Consent="b"', label="C26h"),
        "attribute_twice_by_namespace": given(b'xmlns:a="urn:a" xmlns:b="urn:a" a:x="1" b:x="2"', label="C26i"),
        "two_colons": given(b'a:b:c="x"', label="C26j"),
    },
)
def c26_namespace_abuse(attributes: bytes) -> bytes:
    """The Response carries the ill-formed or reserved declaration:"""
    return in_response(attributes)


@case("C27", allow=True)
def c27_inclusion_and_schema_location() -> bytes:
    """XInclude in Extensions and a schema location on the Response: nothing is fetched, the signature holds."""
    include = b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'
    location = b'xmlns:xsi="' + n.XSI.encode() + b'" xsi:schemaLocation="urn:x http://127.0.0.1:9/x.xsd"'
    return with_extension(include).replace(b"<samlp:Response ", b"<samlp:Response " + location + b" ", 1)


@case("C27", deny=("upn_invalid", "upn_missing"), bug=SSRF)
def c27_inclusion_in_the_upn() -> Launch:
    """The UPN's value is an XInclude, genuinely signed: it is no text."""
    launch = Launch()
    holder = launch.find(UPN_VALUE)
    holder.text = None
    include = etree.SubElement(
        holder, "{http://www.w3.org/2001/XInclude}include", nsmap={"xi": "http://www.w3.org/2001/XInclude"}
    )
    include.set("href", "file:///etc/passwd")
    include.set("parse", "text")
    return launch.sign()


@case("C27", allow=True, each={"base": b'xml:base="http://127.0.0.1:9/"', "space": b'xml:space="preserve"'})
def c27_xml_attributes(attribute: bytes) -> bytes:
    """The Response, outside the signature, carries:"""
    return in_response(attribute)


@case(
    "C28",
    deny="xml_malformed",
    bug=DIFFERENTIAL,
    each={
        "trailing_text": lambda octets: octets + b"x",
        "two_documents": lambda octets: octets + octets,
        "leading_text": lambda octets: b"x" + octets,
        "trailing_element": lambda octets: octets + b"<x/>",
        "trailing_end_tag": lambda octets: octets + b"</x>",
        "blank_before_declaration": lambda octets: b' <?xml version="1.0"?>' + octets,
        "declaration_twice": lambda octets: b'<?xml version="1.0"?><?xml version="1.0"?>' + octets,
        "trailing_entity": lambda octets: octets + b"&amp;",
    },
)
def c28_not_one_document(act: Callable[[bytes], bytes]) -> bytes:
    """The bytes are not one document:"""
    return act(genuine())


@case(
    "C30",
    deny="xml_malformed",
    bug=DIFFERENTIAL,
    each={
        "cut": lambda octets: octets[: len(octets) // 2],
        "cut_at_the_end": lambda octets: octets[:-1],
        "end_tags_swapped": lambda octets: octets.replace(b"</saml:Issuer>", b"</saml:Issue>", 1),
        "unquoted_attribute": lambda octets: octets.replace(b'Version="2.0"', b"Version=2.0", 1),
        "bare_ampersand": lambda octets: octets.replace(b"alice@", b"alice&@", 1),
        "less_than_in_attribute": lambda octets: octets.replace(b'Version="2.0"', b'Version="<2.0"', 1),
        "only_less_than": lambda _: b"<",
        "open_cdata": lambda octets: octets.replace(b"alice@", b"<![CDATA[alice@", 1),
        "cdata_end_in_text": lambda octets: octets.replace(b"alice@", b"]]>alice@", 1),
        "no_encoding_quotes": lambda octets: b"<?xml version=1.0?>" + octets,
        "encoding_before_version": lambda octets: b'<?xml encoding="UTF-8" version="1.0"?>' + octets,
        "reference_without_digits": lambda octets: octets.replace(b"alice@", b"&#;alice@", 1),
    },
)
def c30_not_well_formed(act: Callable[[bytes], bytes]) -> bytes:
    """The document is not well-formed:"""
    return act(genuine())


@case(
    "C31",
    deny="xml_encoding",
    bug=DIFFERENTIAL,
    each={
        "overlong": b"\xc0\x80",
        "surrogate": b"\xed\xa0\x80",
        "five_bytes": b"\xf8\x88\x80\x80\x80",
        "lone_start": b"\xc3",
        "lone_continuation": b"\x80",
        "beyond_unicode": b"\xf4\x90\x80\x80",
        "latin_1": b"\xe9",
        "overlong_less_than": b"\xc0\xbc",
        "ff": b"\xff",
    },
)
def c31_invalid_utf_8(inside: bytes) -> bytes:
    """NameID holds octets that are not UTF-8:"""
    return in_name_id(inside)


@case("C33", allow=True)
def c33_prefix_rebound_outside_the_signature() -> bytes:
    """A prefix that is used only in xsi:type values was rebound on the Response: no decision is taken from it."""
    launch = Launch()
    etree.cleanup_namespaces(launch.root, keep_ns_prefixes=["xs"], top_nsmap={"xs": n.XS, "xsi": n.XSI})
    launch.find(UPN_VALUE).set(qname("xsi:type"), "xs:string")
    octets = launch.sign().wire()
    return octets.replace(f'xmlns:xs="{n.XS}"'.encode(), b'xmlns:xs="urn:example:evil"', 1)


@case("C34", deny="digest_mismatch", bug=DIFFERENTIAL)
def c34_prefix_in_a_prefix_list_rebound() -> bytes:
    """As before, but the signature's PrefixList covers the prefix."""
    launch = Launch()
    etree.cleanup_namespaces(launch.root, keep_ns_prefixes=["xs"], top_nsmap={"xs": n.XS, "xsi": n.XSI})
    launch.find(UPN_VALUE).set(qname("xsi:type"), "xs:string")
    transforms = (PLAIN_TRANSFORMS[0], Transform(uri=n.EXC_C14N, prefixes="xs"))
    octets = launch.sign(transforms=transforms).wire()
    return octets.replace(f'xmlns:xs="{n.XS}"'.encode(), b'xmlns:xs="urn:example:evil"', 1)


@case("C35", deny="evidence_missing", bug=BugType.FAIL_OPEN)
def c35_no_evidence() -> None:
    """FAS handed over no SAMLResponse."""


@case("C35", deny="evidence_empty", bug=BugType.FAIL_OPEN)
def c35_empty_evidence() -> bytes:
    """The evidence has no bytes."""
    return b""


@case(
    "C36",
    deny="evidence_encoding",
    bug=DIFFERENTIAL,
    origin="SAML bindings 3.5.4, RFC 4648",
    each={
        "text": lambda _: b"hello",
        "newlines": lambda text: b"\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        "trailing_newline": lambda text: text + b"\n",
        "leading_blank": lambda text: b" " + text,
        "tabs": lambda text: text[:80] + b"\t" + text[80:],
        "url_safe": lambda text: text.replace(b"+", b"-").replace(b"/", b"_") + b"-_-_",
        "junk": lambda text: text[:80] + b"!" + text[80:],
        "no_padding": lambda text: text.rstrip(b"=")[:-1],
        "padding_inside": lambda text: text[:80] + b"==" + text[80:],
        "text_after_padding": lambda text: base64.b64encode(b"<a/>x") + text,
        "percent_encoded": lambda text: text.replace(b"=", b"%3D") + b"%3D",
        "data_url": lambda text: b"data:text/xml;base64," + text,
        "json": lambda text: b'"' + text + b'"',
        "non_ascii": lambda text: text[:80] + b"\xc3\xa9" + text[80:],
        "blanks": lambda _: b"   ",
    },
)
def c36_bad_base64(act: Callable[[bytes], bytes]) -> bytes:
    """Base64 that only a lenient decoder takes, or no base64:"""
    return act(base64.b64encode(genuine()))


@case("C36", deny="evidence_encoding", bug=DIFFERENTIAL)
def c36_base64_with_spare_bits() -> bytes:
    """The last character before the padding has bits set that decoding drops: two texts for one content."""
    octets = genuine()
    octets += b" " * ((1 - len(octets)) % 3)
    text = base64.b64encode(octets)
    assert text.endswith(b"A==")
    return text[:-3] + b"B=="


@case("C37", deny=("xml_malformed", "evidence_encoding", "xml_encoding"), bug=DIFFERENTIAL)
def c37_base64_twice() -> bytes:
    """Base64 of base64: evidence is decoded once."""
    return base64.b64encode(base64.b64encode(genuine()))


@case(
    "C37",
    deny=("xml_malformed", "evidence_encoding", "xml_encoding"),
    bug=DOS,
    each={"deflate": -15, "zlib": 15, "gzip": 31},
)
def c37_compressed(window: int) -> bytes:
    """Base64 of compressed XML, as the redirect binding has it: nothing is inflated."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, window)
    return base64.b64encode(compressor.compress(genuine()) + compressor.flush())


@case("C37", deny=("xml_malformed", "xml_encoding", "evidence_encoding"), bug=DOS)
def c37_raw_octets() -> bytes:
    """Octets that are neither XML nor base64, with a less-than sign among them."""
    return bytes(range(256))


@case("C38", deny="not_a_response", bug=DIFFERENTIAL)
def c38_assertion_alone() -> bytes:
    """Only the signed assertion, as WS-Federation and some gateways hand on."""
    return alone(Launch().sign().assertion)


@case("C39", deny="digest_mismatch", bug=DIFFERENTIAL)
def c39_carriage_returns_signed_and_lost() -> Launch:
    """A carriage return was signed as a character and arrives as a line feed."""
    launch = Launch()
    launch.assertion.text = "\r\n"
    launch.sign()
    launch.assertion.text = "\n"
    return launch
