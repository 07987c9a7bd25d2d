"""Transforms and canonicalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lxml import etree

from tests.corpus import names as n
from tests.corpus.build import case, given
from tests.corpus.good import Launch
from tests.corpus.model import BugType
from tests.corpus.sign import PLAIN_TRANSFORMS, How, Transform, below, element

WRAP = BugType.WRAPPING
XPATH = "http://www.w3.org/TR/1999/REC-xpath-19991116"
XPATH_FILTER = "http://www.w3.org/2002/06/xmldsig-filter2"
XSLT = "http://www.w3.org/TR/1999/REC-xslt-19991116"
ENVELOPED, EXCLUSIVE = PLAIN_TRANSFORMS


def xpath() -> etree._Element:
    """An XPath parameter that selects everything but the signature."""
    return element("ds:XPath", "not(ancestor-or-self::*[local-name()='Signature'])")


def xpath_filter() -> etree._Element:
    """An XPath Filter 2 parameter."""
    made = etree.Element(f"{{{XPATH_FILTER}}}XPath", nsmap={"dsig-xpath": XPATH_FILTER})
    made.set("Filter", "intersect")
    made.text = "//*"
    return made


def stylesheet() -> etree._Element:
    """An XSLT that reads a file."""
    xsl = "http://www.w3.org/1999/XSL/Transform"
    made = etree.Element(f"{{{xsl}}}stylesheet", nsmap={"xsl": xsl})
    made.set("version", "1.0")
    template = etree.SubElement(made, f"{{{xsl}}}template")
    template.set("match", "/")
    etree.SubElement(template, f"{{{xsl}}}copy-of").set("select", "document('file:///etc/passwd')")
    return made


@case(
    "D01",
    deny="transform_forbidden",
    bug=WRAP,
    each={
        "xslt": given(
            lambda: Transform(uri=XSLT, inside=(stylesheet(),)), label="D01", bug=BugType.SERVER_SIDE_REQUEST
        ),
        "xpath": given(lambda: Transform(uri=XPATH, inside=(xpath(),)), label="D02", origin="xmlseclibs 4 changelog"),
        "xpath_filter_2": given(lambda: Transform(uri=XPATH_FILTER, inside=(xpath_filter(),)), label="D03"),
        "base64": given(lambda: Transform(uri=n.DS + "base64"), label="D04"),
        "unknown": given(
            lambda: Transform(uri="urn:example:transform"), label="D05", origin="signxml skips unknown transforms"
        ),
        "empty": given(lambda: Transform(uri=""), label="D05"),
        "exclusive_again": given(lambda: EXCLUSIVE, label="D06"),
        "enveloped_again": given(lambda: ENVELOPED, label="D06"),
        "decryption": given(lambda: Transform(uri="http://www.w3.org/2002/07/decrypt#XML"), label="D06"),
        "str_transform": given(lambda: Transform(uri="http://schemas.xmlsoap.org/2003/06/STR-Transform"), label="D06"),
    },
)
def d01_third_transform(build: Callable[[], Transform]) -> Launch:
    """Genuinely signed with a third transform:"""
    return Launch().sign(transforms=(*PLAIN_TRANSFORMS, build()))


@case("D07", deny="transform_forbidden", bug=BugType.DENIAL_OF_SERVICE, origin="OpenSAML limit of 2")
def d07_hundred_transforms() -> Launch:
    """Exclusive canonicalization a hundred times."""
    return Launch().sign(transforms=(ENVELOPED, *(EXCLUSIVE,) * 100))


@case(
    "D08",
    deny="transform_forbidden",
    bug=WRAP,
    each={
        "exclusive_only": given((EXCLUSIVE,), label="D08", about="only exclusive canonicalization."),
        "reversed": given((EXCLUSIVE, ENVELOPED), label="D09", about="the two in the other order."),
        "enveloped_only": given((ENVELOPED,), label="D10", about="only enveloped-signature."),
        "inclusive": given((ENVELOPED, Transform(uri=n.C14N)), label="D11", about="inclusive canonicalization."),
        "inclusive_1_1": given((ENVELOPED, Transform(uri=n.C14N11)), label="D11", about="canonical XML 1.1."),
        "inclusive_with_comments": given(
            (ENVELOPED, Transform(uri=n.C14N + "#WithComments")), label="D11", about="inclusive with comments."
        ),
        "enveloped_twice": given((ENVELOPED, ENVELOPED), label="D10", about="enveloped-signature twice."),
        "exclusive_twice": given((EXCLUSIVE, EXCLUSIVE), label="D08", about="exclusive canonicalization twice."),
    },
)
def d08_other_transforms(transforms: Sequence[Transform]) -> Launch:
    """The transforms are"""
    return Launch().sign(transforms=transforms)


@case(
    "D12",
    deny="c14n_forbidden",
    bug=WRAP,
    each={
        "inclusive": given(n.C14N, label="D12"),
        "inclusive_1_1": given(n.C14N11, label="D12"),
        "inclusive_with_comments": given(n.C14N + "#WithComments", label="D12"),
        "unknown": given("urn:evil-c14n", label="D13"),
        "empty": given("", label="D13"),
        "transform_uri": given(n.ENVELOPED, label="D13"),
        "xslt": given(XSLT, label="D13"),
        "http": given("http://127.0.0.1:9/c14n", label="D13"),
    },
)
def d12_canonicalization_method(uri: str) -> Launch:
    """Signed with CanonicalizationMethod:"""
    return Launch().sign(c14n=uri)


@case("D14", deny="signature_structure", bug=WRAP)
def d14_no_transforms() -> Launch:
    """Reference has no Transforms."""
    return Launch().sign(transforms=None)


@case("D15", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d15_empty_transforms() -> Launch:
    """Transforms holds no Transform."""
    return Launch().sign(transforms=())


@case("D15", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d15_two_transforms_elements() -> Launch:
    """Reference holds Transforms twice."""

    def twice(info: etree._Element) -> None:
        extra = element("ds:Transforms")
        below(extra, "ds:Transform", Algorithm=n.ENVELOPED)
        info[2].insert(0, extra)

    return Launch().sign(signed_info=twice)


@case("D16", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d16_parameter_in_enveloped() -> Launch:
    """The enveloped-signature transform holds an XPath."""
    return Launch().sign(transforms=(Transform(uri=n.ENVELOPED, inside=(xpath(),)), EXCLUSIVE))


@case("D16", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d16_parameter_in_exclusive() -> Launch:
    """The exclusive canonicalization holds an XPath."""
    return Launch().sign(transforms=(ENVELOPED, Transform(uri=n.EXC_C14N, inside=(xpath(),))))


@case("D16", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d16_two_prefix_lists() -> Launch:
    """The exclusive canonicalization holds two InclusiveNamespaces."""
    second = element("ec:InclusiveNamespaces", PrefixList="samlp")
    return Launch().sign(transforms=(ENVELOPED, Transform(uri=n.EXC_C14N, prefixes="xs", inside=(second,))))


@case("D16", deny=("c14n_forbidden", "signature_structure"), bug=WRAP)
def d16_parameter_in_canonicalization_method() -> Launch:
    """CanonicalizationMethod holds an XPath."""

    def act(info: etree._Element) -> None:
        info[0].append(xpath())

    return Launch().sign(signed_info=act)


@case("D17", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d17_transform_in_another_namespace() -> Launch:
    """A foreign element stands between the two transforms."""

    def act(info: etree._Element) -> None:
        info[2][0].insert(1, etree.Element("{urn:example:evil}Transform", nsmap={"evil": "urn:example:evil"}))

    return Launch().sign(signed_info=act)


@case("D17", deny=("transform_forbidden", "signature_structure"), bug=WRAP)
def d17_transform_without_algorithm() -> Launch:
    """The second Transform has no Algorithm."""
    return Launch().sign(signed_info=lambda info: info[2][0][1].attrib.pop("Algorithm"))


@case("D18", deny="transform_forbidden", bug=WRAP)
def d18_response_signature_with_xpath() -> Launch:
    """The assertion's signature is plain; the Response's, also genuine, has a third transform."""
    launch = Launch().sign()
    return launch.sign_response(How(transforms=(*PLAIN_TRANSFORMS, Transform(uri=XPATH, inside=(xpath(),)))))
