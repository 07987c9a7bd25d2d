"""Canonical XML for the corpus' signer, written from the recommendations.

Own code, so that the signer shares nothing with the verifier. Exclusive (with an optional PrefixList) and inclusive
form. Comments and processing instructions are left out. Attributes of the `xml` namespace are not inherited, which
no case needs.
"""

from __future__ import annotations

from collections.abc import Collection

from lxml import etree

from tests.corpus.names import XML

_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})
_VALUE = str.maketrans({"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"})


def exclusive(apex: etree._Element, *, prefixes: Collection[str] = (), without: etree._Element | None = None) -> bytes:
    """Exclusive canonicalization of the subtree; `without` leaves out one element (the enveloped signature)."""
    return "".join(_write(apex, {}, frozenset(prefixes), without, inclusive=False)).encode()


def inclusive(apex: etree._Element, *, without: etree._Element | None = None) -> bytes:
    """Inclusive canonicalization of the subtree."""
    return "".join(_write(apex, {}, frozenset(), without, inclusive=True)).encode()


def _write(
    element: etree._Element,
    rendered: dict[str | None, str],
    prefixes: frozenset[str],
    without: etree._Element | None,
    *,
    inclusive: bool,
) -> list[str]:
    in_scope = {prefix: uri for prefix, uri in element.nsmap.items() if uri != XML}
    attributes = _attributes(element)
    used: set[str | None] = {element.prefix}
    used |= {shown.partition(":")[0] for uri, _, shown, _ in attributes if uri not in {"", XML}}
    listed = {None if prefix == "#default" else prefix for prefix in prefixes}
    wanted = set(in_scope) if inclusive else used | (listed & set(in_scope))
    declarations = {}
    for prefix in wanted:
        uri = in_scope.get(prefix, "")
        if rendered.get(prefix, "") != uri:
            declarations[prefix] = uri
    shown_name = etree.QName(element).localname
    if element.prefix:
        shown_name = f"{element.prefix}:{shown_name}"
    out = [f"<{shown_name}"]
    for prefix in sorted(declarations, key=lambda prefix: prefix or ""):
        shown = f"xmlns:{prefix}" if prefix else "xmlns"
        out.append(f' {shown}="{declarations[prefix].translate(_VALUE)}"')
    for _, _, shown, value in sorted(attributes, key=lambda entry: entry[:2]):
        out.append(f' {shown}="{value.translate(_VALUE)}"')
    out.append(">")
    out.append((element.text or "").translate(_TEXT))
    inside = {**rendered, **declarations}
    for child in element:
        if isinstance(child.tag, str) and child is not without:
            out.extend(_write(child, inside, prefixes, without, inclusive=inclusive))
        out.append((child.tail or "").translate(_TEXT))
    out.append(f"</{shown_name}>")
    return out


def _attributes(element: etree._Element) -> list[tuple[str, str, str, str]]:
    """Namespace name, local name, name as written, and value of each attribute."""
    found = []
    for key, value in element.attrib.items():
        name = etree.QName(str(key))
        shown = name.localname
        if name.namespace is not None:
            which = "name(@*[namespace-uri() = $uri and local-name() = $local])"
            shown = str(element.xpath(which, uri=name.namespace, local=name.localname))
        found.append((name.namespace or "", name.localname, shown, value))
    return found
