"""The only door for XML: bytes in, a tree under limits out.

- UTF-8 encoded XML 1.0 only, whatever the declaration says or leaves out.
- No DTD, no entity, no external anything: looked for in the bytes before parsing and in the tree after.
- No comment and no processing instruction (known attacks split values with them), unless the caller allows them;
  then they are left out of the tree, so that text is never cut at one.
- No relative namespace name: canonicalization of such a document is undefined (CVE-2025-66475). Abuse of the reserved
  prefixes and names is refused by libxml2 itself.
- Every dimension is bounded before it costs much.
- A large document of many parts is streamed: one part is in memory at a time, and the refusals are the same.

Nothing here says that a document is true; that is `idp_certs.signature`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import TypeVar

from lxml import etree

from idp_certs.reasons import Refused, TrustReason


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlLimits:
    """Bounds of one document. The defaults are for evidence: genuine responses of 182 samples stay below 46 KB.

    Lengths are in bytes for the document and in characters for text and attribute values.
    """

    document: int = 256 * 1024
    elements: int = 5_000
    depth: int = 40
    attributes_per_element: int = 64
    attribute_length: int = 8 * 1024
    text_length: int = 200 * 1024  # the cipher text of a large encrypted assertion is one text
    namespace_declarations: int = 512
    comments: bool = False


EVIDENCE_LIMITS = XmlLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Bounds of a streamed document: of the whole, of one item in it, and of one item that is the whole document.

    Bytes and elements of one item are counted in blocks of 64 KiB, together with what stands before it.
    """

    document: XmlLimits
    item: XmlLimits
    alone: XmlLimits


_DECLARATION_START = re.compile(rb"<\?xml[ \t\r\n]")
_DECLARATION = re.compile(
    rb"""<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:"([^"<]*)"|'([^'<]*)')"""
    rb"""(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:"([^"<]*)"|'([^'<]*)'))?"""
    rb"""(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:"(?:yes|no)"|'(?:yes|no)'))?[ \t\r\n]*\?>"""
)
_BOM = b"\xef\xbb\xbf"
_BLOCK = 64 * 1024
_CONTROLS = bytes([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20)])
_ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
_NO_CHARACTER = re.compile(rb"\xef\xbf[\xbe\xbf]")
_CHARACTER_REFERENCE = re.compile(rb"&#(?:x([0-9A-Fa-f]*)|([0-9]*));?")
_MARKUP_DECLARATION = re.compile(rb"<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)", re.IGNORECASE)
_SUSPICIOUS_NAMESPACE = re.compile(
    rb"""xmlns(?!(?::[^\s=<>"':]+)?[ \t\r\n]*=[ \t\r\n]*"""
    rb"""(?:"(?:[A-Za-z][A-Za-z0-9+.-]*:[^"<]*)?"|'(?:[A-Za-z][A-Za-z0-9+.-]*:[^'<]*)?'))"""
)
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_ENTITY_REFERENCE = re.compile(rb"&(?!#|(?:amp|lt|gt|quot|apos);)")


def parse_xml(data: bytes, limits: XmlLimits = EVIDENCE_LIMITS) -> etree._Element:
    """The document element of `data`. Raises Refused with one of the `xml_` reasons, and nothing else."""
    declaration_end = _check_bytes(data, limits)
    root = _parse(data, comments=limits.comments)
    _check_document(root, data, declaration_end, limits)
    return root


def stream_xml(data: bytes, limits: StreamLimits, *, group: str, item: str) -> Iterator[tuple[str, etree._Element]]:
    """The items of a document, each `("start", element)` and `("end", element)`, and so the groups around them.

    An item is an element of tag `item` that is the document element or stands in groups only; a group is one of tag
    `group` of which the same is true. At its start an element has its attributes and lineage, and what stands before
    its first item in a group is there when that item starts; at its end it is whole. Once an end was handled, the
    content is dropped, and so is all that stands before the element. A document element of another tag is given at
    its end only. Comments and processing instructions are left out, whatever the limits say.

    Raises Refused with one of the `xml_` reasons, and nothing else: what was given until then is of no worth.
    """
    _check_bytes(data, limits.document)
    references = _ENTITY_REFERENCE.search(data) is not None
    parser = etree.XMLPullParser(
        events=("start", "end"),
        tag=[group, item],
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    bounds = limits.alone
    lineage: list[etree._Element] = []
    size = tags = 0
    for block in _fed(parser, data):
        tags_here = block.count(b"<")
        size, tags = size + len(block), tags + tags_here
        for event, element in parser.read_events():
            if event == "start" and _is_placed(element, lineage, group):
                if not lineage:
                    bounds = limits.alone if element.tag == item else limits.item
                lineage.append(element)
                yield "start", element
                if element.tag == item and len(lineage) == 1:
                    _check_cheap_bounds(data, bounds)
            elif event == "end" and lineage and element is lineage[-1]:
                for part in (element, *element.itersiblings(preceding=True)):
                    _check_dimensions(part, bounds, above=len(lineage) - 1, size=size, references=references)
                yield "end", element
                _drop(lineage.pop())
                size, tags = len(block), tags_here
        _check_part(size, tags, bounds)
    root = _guarded(parser.close)
    _check_no_dtd(root)
    _check_namespaces(data)
    if root.tag not in (group, item):
        _check_dimensions(root, bounds, above=0, size=size, references=references)
        yield "end", root


def _check_part(size: int, tags: int, limits: XmlLimits) -> None:
    if size > limits.document + _BLOCK:
        raise _limit("bytes in one part", limits.document)
    if tags > 2 * limits.elements + _BLOCK:  # a start and an end for each
        raise _limit("elements in one part", limits.elements)


def _is_placed(element: etree._Element, lineage: list[etree._Element], group: str) -> bool:
    parent = element.getparent()
    return parent is None if not lineage else parent is lineage[-1] and parent.tag == group


def _fed(parser: etree.XMLPullParser, data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        _guarded(partial(parser.feed, block))
        yield block


def _drop(element: etree._Element) -> None:
    """Free what is no longer needed. The element and its tail stay: the parser may be at work right after them."""
    element.clear(keep_tail=True)
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def learn_default_prefix() -> None:
    """Make this thread canonicalize by a PrefixList with `#default` as the specification says.

    lxml leaves out of a PrefixList what is not among the strings its parsers have met in the same thread, so that one
    document's canonical form would depend on those before it. As a namespace name the string is met for good.
    """
    etree.fromstring(b'<d xmlns:d="#default"/>', etree.XMLParser(resolve_entities=False, no_network=True))


def _check_bytes(data: bytes, limits: XmlLimits) -> int:
    """All that is seen without parsing; the offset after the byte order mark and the XML declaration."""
    declaration_end = _check_encoding(data)
    if _MARKUP_DECLARATION.search(data):
        raise Refused(TrustReason.XML_DTD, expected="no document type declaration", where="document")
    _check_cheap_bounds(data, limits)
    return declaration_end


def _check_encoding(data: bytes) -> int:
    """Refuse all but UTF-8 and XML 1.0; the offset after the byte order mark and the XML declaration."""
    start = len(_BOM) if data.startswith(_BOM) else 0
    _check_characters(data)
    for reference in _CHARACTER_REFERENCE.finditer(data):
        if not _is_xml_character(reference):
            raise _encoding(f"a reference to a forbidden character at offset {reference.start()}")
    if not _DECLARATION_START.match(data, start):
        return start
    declaration = _DECLARATION.match(data, start)
    if declaration is None:
        raise Refused(TrustReason.XML_MALFORMED, expected="a well-formed XML declaration", where="document")
    version = declaration[1] if declaration[1] is not None else declaration[2]
    if version != b"1.0":
        raise _encoding(f"XML version {version.decode()[:40]}")
    encoding = declaration[3] if declaration[3] is not None else declaration[4]
    if encoding is not None and encoding.lower() != b"utf-8":
        raise _encoding(f"declared encoding {encoding.decode()[:40]}")
    return declaration.end()


def _check_characters(data: bytes) -> None:
    """Refuse what is not UTF-8 or not allowed in XML, block by block, so that no second copy of the whole is made."""
    at = 0
    while at < len(data):
        end = at + 16 * _BLOCK
        while end < len(data) and data[end] & 0xC0 == 0x80 and end > at + 16 * _BLOCK - 4:
            end -= 1  # not amid a character
        block = data if len(data) <= 16 * _BLOCK else data[at:end]
        try:
            codecs.utf_8_decode(block, "strict", True)  # noqa: FBT003 - its signature
        except UnicodeDecodeError as error:
            raise _encoding(f"byte {block[error.start]:#04x} at offset {at + error.start}") from None
        if len(block.translate(None, _CONTROLS)) != len(block) or _NO_CHARACTER.search(block):
            illegal = _ILLEGAL.search(block)
            raise _encoding(f"a forbidden character at offset {at + (illegal.start() if illegal else 0)}")
        at += len(block)


def _encoding(presented: str) -> Refused:
    return Refused(TrustReason.XML_ENCODING, expected="UTF-8, XML 1.0", presented=presented, where="document")


def _is_xml_character(reference: re.Match[bytes]) -> bool:
    """XML 1.0 production 2. A reference without digits is left to the parser, which refuses it."""
    digits, base = (reference[1], 16) if reference[1] is not None else (reference[2], 10)
    if not digits:
        return True
    digits = digits.lstrip(b"0") or b"0"
    if len(digits) > 7:  # beyond any code point
        return False
    code = int(digits, base)
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF


def _limit(what: str, limit: int) -> Refused:
    return Refused(TrustReason.XML_LIMITS, expected=f"at most {limit} {what}", presented="more", where="document")


def _check_cheap_bounds(data: bytes, limits: XmlLimits) -> None:
    """What can be counted in the bytes, so that a flood is refused before a tree is built of it."""
    if len(data) > limits.document:
        raise _limit("bytes", limits.document)
    tags = data.count(b"<")
    if tags > limits.elements and tags - sum(map(data.count, (b"</", b"<!", b"<?"))) > limits.elements:
        raise _limit("elements", limits.elements)
    if data.count(b"xmlns") > limits.namespace_declarations:
        raise _limit("namespace declarations", limits.namespace_declarations)


def _parse(data: bytes, *, comments: bool) -> etree._Element:
    # A parser for each document: it keeps an error log and belongs to one thread at a time.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
        remove_comments=comments,
        remove_pis=comments,
    )
    root = _guarded(lambda: etree.fromstring(data, parser))
    _check_no_dtd(root)
    return root


_T = TypeVar("_T")


def _guarded(parse: Callable[[], _T]) -> _T:
    """What `parse` gives; Refused for all that it raises."""
    try:
        return parse()
    except etree.XMLSyntaxError as error:
        if error.code in (etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_NAME_TOO_LONG):
            raise Refused(TrustReason.XML_LIMITS, expected="a document of normal depth", where="document") from None
        raise Refused(
            TrustReason.XML_MALFORMED,
            expected="one well-formed XML document",
            presented=f"an error at line {error.lineno}, column {error.offset}",
            where="document",
        ) from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - lxml has raised ValueError, UnicodeError and AssertionError on hostile bytes
        raise Refused(TrustReason.XML_MALFORMED, expected="one well-formed XML document", where="document") from None


def _check_no_dtd(root: etree._Element) -> None:
    document = root.getroottree().docinfo
    if document.internalDTD is not None or document.externalDTD is not None or document.doctype:
        raise Refused(TrustReason.XML_DTD, expected="no document type declaration", where="document")


def _check_document(root: etree._Element, data: bytes, declaration_end: int, limits: XmlLimits) -> None:
    if not limits.comments and (b"<!--" in data or data.find(b"<?", declaration_end) >= 0):
        _check_no_comments(root)
    _check_dimensions(root, limits, above=0, size=len(data), references=b"&" in data)
    _check_namespaces(data)


def _check_dimensions(element: etree._Element, limits: XmlLimits, *, above: int, size: int, references: bool) -> None:
    """What can only be measured in the tree of `element`, so many levels below the top, from at most `size` bytes."""
    if references and next(element.iter(etree.Entity), None) is not None:
        raise Refused(TrustReason.XML_DTD, expected="no entity references", where="document")
    if _deeper_than(max(limits.depth - above, 0))(element):
        raise _limit("levels", limits.depth)
    if _MORE_ATTRIBUTES(element, most=limits.attributes_per_element):
        raise _limit("attributes on an element", limits.attributes_per_element)
    if size > limits.attribute_length and _LONGER_ATTRIBUTE(element, most=limits.attribute_length):
        raise _limit("characters in an attribute", limits.attribute_length)
    if size > limits.text_length and _LONGER_TEXT(element, most=limits.text_length):
        raise _limit("characters in a text", limits.text_length)


_MORE_ATTRIBUTES = etree.XPath("boolean(descendant-or-self::*[count(@*) > $most])")
_LONGER_ATTRIBUTE = etree.XPath("boolean(descendant-or-self::*/@*[string-length() > $most])")
_LONGER_TEXT = etree.XPath("boolean(descendant::text()[string-length() > $most])")


@cache
def _deeper_than(levels: int) -> etree.XPath:
    return etree.XPath("boolean(self::*" + "/*" * levels + ")")


def _check_no_comments(root: etree._Element) -> None:
    """Precise where the bytes only gave a suspicion: `<!--` may stand in a CDATA section."""
    kinds = (etree.Comment, etree.ProcessingInstruction)
    inside = next(root.iter(*kinds), None)
    outside = next(root.itersiblings(preceding=True), None) is not None or next(root.itersiblings(), None) is not None
    if inside is not None or outside:
        raise Refused(TrustReason.XML_COMMENT_OR_PI, expected="no comment, no processing instruction", where="document")


def _check_namespaces(data: bytes) -> None:
    if not _SUSPICIOUS_NAMESPACE.search(data):
        return
    # Something else spells xmlns, or a name looks relative: ask the parser for the real declarations.
    events = etree.iterparse(
        BytesIO(data), events=("start-ns", "end"), resolve_entities=False, no_network=True, collect_ids=False
    )
    for _, declaration in events:
        if isinstance(declaration, tuple):
            name = declaration[1]
        elif declaration is not None:
            _drop(declaration)
            name = ""
        if name and not _ABSOLUTE.match(name.encode()):
            raise Refused(
                TrustReason.XML_NAMESPACE, expected="absolute namespace names", presented=name[:100], where="document"
            )
