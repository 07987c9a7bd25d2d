"""Valid variations that must be accepted."""

from __future__ import annotations

import base64
from collections.abc import Callable

from lxml import etree

from tests.corpus import names as n
from tests.corpus.access.claims import CONDITIONS, CONFIRMATION, DATA, NAME_ID, STATEMENT, SUBJECT
from tests.corpus.access.identity import ATTRIBUTE, ATTRIBUTES, VALUE
from tests.corpus.access.wrapping import foreign
from tests.corpus.build import case, given
from tests.corpus.good import Launch, attribute, extensions, instant
from tests.corpus.names import qname
from tests.corpus.sign import PLAIN_TRANSFORMS, How, Transform, below, element, key_name, key_value

ENVELOPED = PLAIN_TRANSFORMS[0]


@case("V01", allow=True)
def v01_assertion_signed() -> Launch:
    """Only the assertion is signed (AD FS, Entra)."""
    return Launch().sign()


@case("V02", allow=True)
def v02_response_signed() -> Launch:
    """Only the Response is signed (Keycloak, Shibboleth)."""
    return Launch().sign_response()


@case("V03", allow=True, each={"either": {}, "both": given(policy={"require_signed": "both"})})
def v03_both_signed(_: object) -> Launch:
    """The assertion is signed first, then the Response (Okta); required is:"""
    return Launch().sign().sign_response()


@case(
    "V03",
    allow=True,
    each={
        "assertion": given(Launch.sign, policy={"require_signed": "assertion"}),
        "response": given(Launch.sign_response, policy={"require_signed": "response"}),
    },
)
def v03_just_what_is_required(act: Callable[[Launch], Launch]) -> Launch:
    """Just the element is signed that the policy requires:"""
    return act(Launch())


def renamed(octets: bytes, names: dict[str, str]) -> bytes:
    """Other prefixes throughout; an empty new prefix makes the namespace the default one."""
    for old, new in names.items():
        for before, after in ((f"<{old}:", f"<{new}:"), (f"</{old}:", f"</{new}:")):
            octets = octets.replace(before.encode(), after.replace(":", "" if not new else ":").encode())
        declared = f"xmlns:{new}=" if new else "xmlns="
        octets = octets.replace(f"xmlns:{old}=".encode(), declared.encode())
    return octets


def with_prefixes(names: dict[str, str], **fields: str) -> Launch:
    """The base message with other prefixes, unsigned."""
    return Launch.parsed(renamed(Launch(**fields).wire(), names).decode())


@case(
    "V04",
    allow=True,
    each={
        "saml2": ({"saml": "saml2", "samlp": "saml2p"}, "dsig"),
        "short": ({"saml": "a", "samlp": "p"}, "d"),
        "default_for_protocol": ({"samlp": ""}, ""),
        "odd": ({"saml": "ds", "samlp": "xs"}, "saml"),
        "default_for_signature": ({}, ""),
    },
)
def v04_other_prefixes(names: tuple[dict[str, str], str]) -> Launch:
    """Other namespace prefixes, for SAML and for the signature:"""
    return with_prefixes(names[0]).sign(prefix=names[1])


@case("V04", allow=True)
def v04_default_namespace_for_the_assertion() -> Launch:
    """The assertion declares its namespace as the default one (AD FS, Entra)."""
    text = Launch().wire().decode()
    before, _, rest = text.partition("<saml:Assertion")
    body, end, after = rest.partition("</saml:Assertion>")
    body = body.replace("<saml:", "<").replace("</saml:", "</")
    return Launch.parsed(before + f'<Assertion xmlns="{n.SAML}"' + body + end.replace("saml:", "") + after).sign(
        prefix=""
    )


@case("V05", allow=True)
def v05_every_element_declares_its_namespace() -> bytes:
    """Signed, and then unused and repeated namespace declarations were added outside the signed element."""
    octets = Launch().sign().wire()
    return octets.replace(b"<samlp:Status>", b'<samlp:Status xmlns:samlp="' + n.SAMLP.encode() + b'" xmlns:q="urn:q">')


def typed(launch: Launch) -> Launch:
    """Attribute values typed as xs:string, the prefixes declared on them."""
    for value in launch.assertion.iter(qname("saml:AttributeValue")):
        parent = value.getparent()
        assert parent is not None
        made = etree.Element(value.tag, nsmap={"xs": n.XS, "xsi": n.XSI})
        made.text = value.text
        made.set(qname("xsi:type"), "xs:string")
        parent.replace(value, made)
    return launch


def prefix_list(prefixes: str) -> tuple[Transform, Transform]:
    """The two transforms, the second with a PrefixList."""
    return ENVELOPED, Transform(uri=n.EXC_C14N, prefixes=prefixes)


@case(
    "V06", allow=True, each={"xs": "xs", "xs_xsi": "xs xsi", "unknown": "nothing", "empty": "", "default": "#default"}
)
def v06_prefix_list(prefixes: str) -> Launch:
    """Values typed xs:string and a PrefixList in the exclusive canonicalization (Okta, Shibboleth):"""
    return typed(Launch()).sign(transforms=prefix_list(prefixes))


def inherited() -> Launch:
    """Values typed xs:string, the prefixes declared on the Response."""
    launch = Launch()
    etree.cleanup_namespaces(launch.root, keep_ns_prefixes=["xs", "xsi"], top_nsmap={"xs": n.XS, "xsi": n.XSI})
    launch.find(VALUE).set(qname("xsi:type"), "xs:string")
    return launch


@case(
    "V07",
    allow=True,
    each={
        "xs": "xs",
        "xs_xsi": "xs xsi",
        "xsi": "xsi",
        "all": "saml samlp xs xsi",
        "opensaml": "#default samlp saml ds xs xsi",
        "two_blanks": "xs  xsi",
        "blanks_around": " xs ",
    },
)
def v07_inherited_prefixes(prefixes: str) -> Launch:
    """The prefixes of the PrefixList are declared on the Response, above the signed assertion:"""
    return inherited().sign(transforms=prefix_list(prefixes))


@case("V07", allow=True)
def v07_inherited_prefixes_without_a_list() -> Launch:
    """The prefixes are declared on the Response, and no PrefixList names them."""
    return inherited().sign()


@case("V07", allow=True)
def v07_inherited_default_namespace() -> Launch:
    """The PrefixList names #default, and the Response declares a default namespace."""
    text = Launch().wire().decode().replace("<samlp:Response ", '<samlp:Response xmlns="urn:example:d" ', 1)
    return Launch.parsed(text).sign(transforms=prefix_list("#default"))


@case("V08", allow=True, each={"unused": "xs", "ds": "ds", "inherited": "samlp", "empty": ""})
def v08_prefix_list_for_signed_info(prefixes: str) -> Launch:
    """CanonicalizationMethod has a PrefixList:"""
    return Launch().sign(c14n_prefixes=prefixes)


@case("V08", allow=True)
def v08_both_prefix_lists_inherited() -> Launch:
    """Both canonicalizations list prefixes that the Response declares."""
    return inherited().sign(c14n_prefixes="xs xsi", transforms=prefix_list("xs xsi"))


@case("V09", allow=True, each={"assertion": Launch.sign, "response": Launch.sign_response})
def v09_pretty_printed(act: Callable[..., Launch]) -> Launch:
    """Indented everywhere, the signature included:"""
    launch = Launch()
    etree.indent(launch.root)
    act(launch, tail="\n    ")
    signature = next(launch.root.iter(qname("ds:Signature")))
    signature.text = "\n      "
    for part in signature:
        part.tail = "\n      "
    return launch


@case("V10", allow=True)
def v10_crlf() -> bytes:
    """Line ends are CRLF on the wire; the parser makes them LF."""
    launch = Launch()
    etree.indent(launch.root)
    return launch.sign(wrap=True).wire().replace(b"\n", b"\r\n")


@case(
    "V11",
    allow=True,
    each={
        "declared": b'<?xml version="1.0" encoding="UTF-8"?>',
        "lower": b"<?xml version='1.0' encoding='utf-8'?>\n",
        "no_encoding": b'<?xml version="1.0"?>',
        "standalone": b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
    },
)
def v11_declaration(declaration: bytes) -> bytes:
    """An XML declaration:"""
    return declaration + Launch().sign().wire()


@case("V12", allow=True)
def v12_cdata() -> bytes:
    """The UPN stands in CDATA sections."""
    octets = Launch().sign().wire()
    return octets.replace(b">alice@corp.example<", b"><![CDATA[alice@corp.example]]><")


@case("V12", allow=True, each={"comment": "<!-- x -->", "instruction": "<?p x?>", "doctype": "<x>"})
def v12_cdata_that_looks_like_markup(text: str) -> bytes:
    """Another attribute's value holds, in a CDATA section, what looks like markup:"""
    launch = Launch()
    launch.add(ATTRIBUTES, attribute("note", "PLACE"))
    value = launch.assertion.findall(".//" + qname("saml:AttributeValue"))[-1]
    value.text = text
    escaped = text.replace("<", "&lt;").replace(">", "&gt;")
    return launch.sign().wire().replace(escaped.encode(), f"<![CDATA[{text}]]>".encode())


@case("V13", allow=True)
def v13_character_references() -> bytes:
    """The UPN and attributes are written with character references."""
    octets = Launch().set(".", Consent='"x" & y').sign().wire()
    return octets.replace(b">alice@", b">&#97;lice&#x40;").replace(n.IDP.encode(), b"https:&#47;/idp.example/saml")


@case("V13", allow=True)
def v13_escaped_values() -> Launch:
    """Other attributes hold quotes, ampersands, angle brackets and line breaks."""
    launch = Launch().add(ATTRIBUTES, attribute("note", "a \"b\" & 'c' <d> ]]> \r\n\t e"))
    return launch.sign()


@case("V14", allow=True)
def v14_wrapped_base64() -> Launch:
    """Signature, digest and certificate are in lines of 76 characters."""
    return Launch().sign(wrap=True)


@case("V14", allow=True)
def v14_blanks_in_the_signature_value() -> Launch:
    """SignatureValue stands between blanks, tabs and line breaks."""
    launch = Launch().sign()
    value = next(launch.root.iter(qname("ds:SignatureValue")))
    text = value.text or ""
    value.text = f"\n\t {text[:64]}\r\n {text[64:]}\n"
    return launch


@case("V15", allow=True, each={"both": (True, True), "reference": (True, False), "signed_info": (False, True)})
def v15_with_comments(where: tuple[bool, bool]) -> Launch:
    """exc-c14n#WithComments where there are no comments (Sustainsys):"""
    uri = n.EXC_C14N_COMMENTS
    transforms = (ENVELOPED, Transform(uri=uri if where[0] else n.EXC_C14N))
    return Launch().sign(transforms=transforms, c14n=uri if where[1] else n.EXC_C14N)


def elliptic(key: str, method: str, digest: str = n.SHA256) -> How:
    """An elliptic-curve signature."""
    return How(key=key, method=method, digest_method=digest, key_info=(key,))


@case(
    "V16",
    allow=True,
    each={
        "rsa_sha384": given(How(method=n.RSA_SHA384, digest_method=n.SHA384), label="V16a"),
        "rsa_sha512": given(How(method=n.RSA_SHA512, digest_method=n.SHA512), label="V16b"),
        "rsa_sha512_with_sha256_digest": given(How(method=n.RSA_SHA512), label="V16b"),
        "rsa_sha256_with_sha512_digest": given(How(digest_method=n.SHA512), label="V16b"),
        "rsa_sha256_with_sha384_digest": given(How(digest_method=n.SHA384), label="V16b"),
        "pss_sha256": given(How(method=n.PSS_SHA256), label="V16c"),
        "pss_sha384": given(How(method=n.PSS_SHA384), label="V16c"),
        "pss_sha512": given(How(method=n.PSS_SHA512), label="V16c"),
        "ecdsa_p256_sha256": given(elliptic("p256", n.ECDSA_SHA256), label="V16d", metadata="idp-p256"),
        "ecdsa_p384_sha384": given(elliptic("p384", n.ECDSA_SHA384, n.SHA384), label="V16d", metadata="idp-p384"),
        "ecdsa_p521_sha512": given(elliptic("p521", n.ECDSA_SHA512, n.SHA512), label="V16d", metadata="idp-p521"),
        "ecdsa_p256_sha512": given(elliptic("p256", n.ECDSA_SHA512), label="V16d", metadata="idp-p256"),
        "ecdsa_p521_sha256": given(elliptic("p521", n.ECDSA_SHA256), label="V16d", metadata="idp-p521"),
        "ecdsa_p384_sha256": given(elliptic("p384", n.ECDSA_SHA256), label="V16d", metadata="idp-p384"),
        "rsa_4096": given(How(key="strong", key_info=("strong",)), label="V16e", metadata="idp-strong"),
        "ecdsa_beside_rsa": given(elliptic("p256", n.ECDSA_SHA256), label="V16e", metadata="idp-rsa-p256"),
        "rsa_beside_ecdsa": given(How(), label="V16e", metadata="idp-rsa-p256"),
    },
)
def v16_algorithm(how: How) -> Launch:
    """Signed with:"""
    return Launch().sign(how)


@case(
    "V17",
    allow=True,
    policy={"allow_sha1": True},
    each={
        "rsa_sha1": How(method=n.RSA_SHA1, digest_method=n.SHA1),
        "rsa_sha1_with_sha256_digest": How(method=n.RSA_SHA1),
        "rsa_sha256_with_sha1_digest": How(digest_method=n.SHA1),
        "rsa_sha256": How(),
        "ecdsa_sha1": given(How(key="p256", method=n.ECDSA_SHA1, key_info=None), metadata="idp-p256"),
    },
)
def v17_sha1_where_allowed(how: How) -> Launch:
    """The policy allows SHA-1:"""
    return Launch().sign(how)


@case(
    "V18",
    allow=True,
    each={
        "none": None,
        "certificate": ("idp",),
        "renewed_certificate": ("idp_renewed",),
        "certificate_of_another": ("attacker",),
        "two_certificates": ("idp", "ca"),
    },
)
def v18_key_info(certificates: tuple[str, ...] | None) -> Launch:
    """KeyInfo, which is never believed, holds:"""
    return Launch().sign(key_info=certificates)


def key_info_of(kind: str) -> etree._Element:
    """A KeyInfo of an unusual kind."""
    if kind == "key_name":
        return key_name("idp-key-2026")
    if kind == "key_value":
        return key_value("idp")
    info = element("ds:KeyInfo")
    if kind == "empty":
        return info
    data = below(info, "ds:X509Data")
    if kind == "issuer_serial":
        serial = below(data, "ds:X509IssuerSerial")
        below(serial, "ds:X509IssuerName", "CN=idp.example")
        below(serial, "ds:X509SerialNumber", "1001")
    elif kind == "subject_key_id":
        below(data, "ds:X509SKI", "AAAA")
    elif kind == "broken_certificate":
        below(data, "ds:X509Certificate", "AAAA")
    else:
        token = etree.SubElement(
            info,
            "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}SecurityTokenReference",
        )
        token.text = "x"
        info.remove(data)
    return info


@case(
    "V18",
    allow=True,
    each={
        kind: kind
        for kind in (
            "key_name",
            "key_value",
            "empty",
            "issuer_serial",
            "subject_key_id",
            "broken_certificate",
            "token_reference",
        )
    },
)
def v18_unusual_key_info(kind: str) -> Launch:
    """KeyInfo of another kind, outside the signature and of no effect:"""
    return Launch().sign(key_info=key_info_of(kind))


@case("V19", allow=True, each={"signature": "ds:Signature", "signature_value": "ds:SignatureValue"})
def v19_id_in_the_signature(name: str) -> Launch:
    """A part of the signature carries an Id of its own:"""
    launch = Launch().sign()
    next(launch.root.iter(qname(name))).set("Id", "_sig1")
    return launch


@case("V20", allow=True)
def v20_ids_in_signed_info() -> Launch:
    """SignedInfo and Reference carry Ids."""

    def act(info: etree._Element) -> None:
        info.set("Id", "_info1")
        info[2].set("Id", "_ref1")

    return Launch().sign(signed_info=act)


@case(
    "V21",
    allow=True,
    each={
        f"{metadata}_{key}": given((key,), metadata=metadata)
        for metadata in ("idp-old-new", "idp-new-old", "idp-old-new-one-key-info", "idp-new-old-one-key-info")
        for key in ("idp", "idp_next")
    },
)
def v21_rollover(keys_used: tuple[str]) -> Launch:
    """The IdP has two certificates, in one order or the other, and signs with either:"""
    return Launch().sign(key=keys_used[0], key_info=keys_used)


@case("V21", allow=True, metadata="idp-old-new")
def v21_response_and_assertion_by_two_keys() -> Launch:
    """During a rollover the assertion is signed with the old key and the Response with the new one."""
    return Launch().sign().sign_response(key="idp_next", key_info=("idp_next",))


FRACTIONS = (".1", ".123", ".1234567", ".123456789", ".000", ".999999999999")


@case("V22", allow=True, each={f"digits_{len(text) - 1}_{text[1]}": text for text in FRACTIONS})
def v22_fractional_seconds(fraction: str) -> Launch:
    """All times have fractions of a second:"""

    def at(seconds: int) -> str:
        return instant(seconds).replace("Z", f"{fraction}Z")

    return Launch(
        issued=at(0),
        not_before=at(-300),
        not_on_or_after=at(3600),
        confirmed_until=at(300),
        authenticated=at(-60),
        session_ends=at(3600),
    ).sign()


@case("V23", allow=True, each={"plus": "+00:00", "minus": "-00:00"})
def v23_zero_offset(offset: str) -> Launch:
    """Times end in a zero offset instead of Z:"""
    return Launch(
        issued=instant().replace("Z", offset),
        not_before=instant(-300).replace("Z", offset),
        not_on_or_after=instant(3600).replace("Z", offset),
    ).sign()


@case("V24", allow=True, at=instant(-60))
def v24_idp_clock_ahead() -> Launch:
    """The IdP's clock is 60 s ahead, inside the skew, and NotBefore is the time of issue."""
    return Launch(not_before=instant()).sign()


@case("V25", allow=True, at=instant(8 * 3600 - 60))
def v25_launch_hours_after_sign_in() -> Launch:
    """A launch eight hours after sign-in; NotOnOrAfter passed seven hours ago."""
    return Launch().sign()


@case("V27", allow=True, at=instant(4 * 3600))
def v27_ends_within_minutes() -> Launch:
    """NotOnOrAfter five minutes and the confirmation one minute after issue; the launch is hours later."""
    return Launch(not_on_or_after=instant(300), confirmed_until=instant(60)).sign()


@case("V28", allow=True)
def v28_minus_five_minutes() -> Launch:
    """Conditions from five minutes before to five minutes after issue (Okta, PingFederate)."""
    return Launch(not_before=instant(-300), not_on_or_after=instant(300)).sign()


@case("V29", allow=True)
def v29_sign_in_started_at_the_idp() -> Launch:
    """No InResponseTo and no Destination: the sign-in started at the IdP."""
    return Launch(in_response_to=None, confirmation_in_response_to=None, destination=None).sign()


def second_confirmation(**attributes: str) -> etree._Element:
    """Another bearer confirmation for somebody else."""
    made = element("saml:SubjectConfirmation", Method=attributes.pop("Method", n.BEARER))
    below(made, "saml:SubjectConfirmationData", **attributes)
    return made


@case(
    "V30",
    allow=True,
    each={
        "holder_of_key_first": (0, {"Method": n.HOLDER_OF_KEY}),
        "holder_of_key_last": (1, {"Method": n.HOLDER_OF_KEY}),
        "other_recipient_first": (0, {"Recipient": "https://other.example/acs", "NotOnOrAfter": instant(300)}),
        "other_recipient_last": (1, {"Recipient": "https://other.example/acs", "NotOnOrAfter": instant(300)}),
        "ended_first": (0, {"Recipient": n.ACS, "NotOnOrAfter": instant(-300)}),
        "sender_vouches_first": (0, {"Method": n.SENDER_VOUCHES}),
    },
)
def v30_two_confirmations(other: tuple[int, dict[str, str]]) -> Launch:
    """Two SubjectConfirmations, of which one is bearer and for us; the other is:"""
    index, attributes = other
    launch = Launch()
    position = list(launch.find(SUBJECT)).index(launch.find(CONFIRMATION)) + index
    return launch.add(SUBJECT, second_confirmation(**attributes), position).sign()


@case("V31", allow=True)
def v31_confirmation_with_address() -> Launch:
    """SubjectConfirmationData carries the client's Address, and the confirmation a NameID."""
    launch = Launch().set(DATA, Address="192.0.2.7")
    launch.find(CONFIRMATION).insert(0, element("saml:NameID", "client"))
    return launch.sign()


@case(
    "V32",
    allow=True,
    each={
        "two_recipients": {"recipients": ["https://b.example/acs", n.ACS]},
        "two_audiences": {"audiences": ["https://b.example", n.GATEWAY]},
    },
)
def v32_policy_with_several(_: object) -> Launch:
    """The policy lists several of our own names:"""
    return Launch().sign()


@case("V33", allow=True)
def v33_one_time_use_and_proxy_restriction() -> Launch:
    """Conditions holds OneTimeUse and ProxyRestriction."""
    launch = Launch()
    below(launch.find(CONDITIONS), "saml:OneTimeUse")
    proxy = below(launch.find(CONDITIONS), "saml:ProxyRestriction", Count="2")
    below(proxy, "saml:Audience", "https://other.example")
    return launch.sign()


@case("V34", allow=True, each={"assertion": Launch.sign, "response": Launch.sign_response})
def v34_extensions(act: Callable[[Launch], Launch]) -> Launch:
    """Extensions holds benign foreign content:"""
    vendor = foreign("Vendor", version="1")
    vendor.append(foreign("Hint"))
    return act(Launch().add(".", extensions(vendor), 1))


@case("V35", allow=True, each={"assertion": Launch.sign, "response": Launch.sign_response})
def v35_further_attributes(act: Callable[[Launch], Launch]) -> Launch:
    """The Response carries Consent, xml:lang and an attribute that nobody knows:"""
    launch = Launch()
    launch.root.set("Consent", "urn:oasis:names:tc:SAML:2.0:consent:unspecified")
    launch.root.set(qname("xml:lang"), "en")
    launch.root.set("{urn:example:vendor}hint", "x")
    return act(launch)


NAME_ID_FORMATS = {
    "unspecified": n.UNSPECIFIED,
    "email": n.EMAIL,
    "persistent": n.PERSISTENT,
    "windows": "urn:oasis:names:tc:SAML:1.1:nameid-format:WindowsDomainQualifiedName",
    "kerberos": "urn:oasis:names:tc:SAML:2.0:nameid-format:kerberos",
    "none": None,
}


@case("V41", allow=True, policy={"upn_from": ["nameid"]}, each=NAME_ID_FORMATS)
def v41_upn_in_name_id(name_id_format: str | None) -> Launch:
    """The policy takes the UPN from NameID; there is no attribute, and Format is:"""
    return Launch(name_id_format=name_id_format, upn=None).sign()


@case("V41", allow=True, policy={"upn_from": ["nameid"]})
def v41_qualified_name_id() -> Launch:
    """NameID with NameQualifier and SPNameQualifier."""
    return Launch(upn=None).set(NAME_ID, NameQualifier=n.IDP, SPNameQualifier=n.GATEWAY).sign()


@case(
    "V42",
    allow=True,
    each={
        "umlaut": given("j\u00fcrgen@corp.example", upn="j\u00fcrgen@corp.example"),
        "greek": given("\u03b1\u03b2@corp.example", upn="\u03b1\u03b2@corp.example"),
        "han": given("\u7530\u4e2d@corp.example", upn="\u7530\u4e2d@CORP.example"),
        "sharp_s": given("stra\u00dfe@corp.example", upn="stra\u00dfe@corp.example"),
        "dotless_i": given("\u0131@corp.example", upn="\u0131@corp.example"),
        "beyond_the_basic_plane": given("\U00020000@corp.example", upn="\U00020000@corp.example"),
        "apostrophe": given("o'brien@corp.example", upn="o'brien@corp.example"),
        "guest": given("a_b.com#EXT#@corp.example", upn="a_b.com#EXT#@corp.example"),
        "plus": given("alice+x@corp.example", upn="alice+x@corp.example"),
    },
)
def v42_unusual_upn(upn: str) -> Launch:
    """A UPN of unusual characters, the same on both sides:"""
    return Launch(upn=upn).sign()


@case(
    "V43",
    allow=True,
    each={
        "renewed_pinned": given(("idp",), metadata="idp-renewed"),
        "old_pinned": given(("idp_renewed",), metadata="idp"),
    },
)
def v43_renewed_certificate(shown: tuple[str, ...]) -> Launch:
    """KeyInfo shows another certificate of the pinned key:"""
    return Launch().sign(key_info=shown)


@case("V44", allow=True, each={"empty": "", "blank": " \n "})
def v44_blanks_between_elements(text: str) -> Launch:
    """White space between the elements of Subject and Conditions:"""
    launch = Launch()
    for path in (SUBJECT, CONDITIONS, STATEMENT):
        launch.find(path).text = text
        launch.find(path)[-1].tail = text
    return launch.sign()


@case("V45", allow=True)
def v45_attribute_with_name_format_and_friendly_name() -> Launch:
    """The UPN attribute has NameFormat, FriendlyName and a foreign attribute (OriginalIssuer of AD FS)."""
    launch = Launch().set(ATTRIBUTE, NameFormat=n.URI_NAME, FriendlyName="UPN")
    launch.find(ATTRIBUTE).set("{http://schemas.xmlsoap.org/ws/2009/09/identity/claims}OriginalIssuer", "x")
    return launch.sign()


@case("V46", allow=True)
def v46_upn_in_the_second_statement() -> Launch:
    """Two AttributeStatements, of which the second holds the UPN."""
    launch = Launch()
    first = element("saml:AttributeStatement")
    first.append(attribute("mail", "x@example"))
    return launch.add("saml:Assertion", first, len(launch.assertion) - 1).sign()


@case("V46", allow=True)
def v46_many_attributes() -> Launch:
    """A hundred other attributes of several values."""
    launch = Launch()
    for number in range(100):
        launch.add(ATTRIBUTES, attribute(f"urn:example:{number}", "a", "b"))
    return launch.sign()


@case("V47", allow=True)
def v47_advice() -> Launch:
    """Advice with foreign content and an AssertionIDRef."""
    launch = Launch()
    advice = element("saml:Advice")
    below(advice, "saml:AssertionIDRef", "_earlier")
    advice.append(foreign("Note"))
    return launch.add("saml:Assertion", advice, 3).sign()


@case("V47", allow=True)
def v47_authz_decision_statement() -> Launch:
    """An AuthzDecisionStatement beside the others."""
    launch = Launch()
    statement = element("saml:AuthzDecisionStatement", Resource="https://gw.example/", Decision="Permit")
    below(statement, "saml:Action", "GET", Namespace="urn:oasis:names:tc:SAML:1.0:action:ghpp")
    return launch.add("saml:Assertion", statement).sign()


@case("V48", allow=True)
def v48_authn_statement_extras() -> Launch:
    """AuthnStatement with SubjectLocality, SessionNotOnOrAfter ahead and AuthenticatingAuthority."""
    launch = Launch(session_ends=instant(8 * 3600))
    statement = launch.find(STATEMENT)
    statement.insert(0, element("saml:SubjectLocality", Address="192.0.2.7", DNSName="client.example"))
    below(statement[1], "saml:AuthenticatingAuthority", "https://upstream.example/saml")
    return launch.sign()


@case("V49", allow=True)
def v49_nil_and_empty_values() -> Launch:
    """Other attributes have nil, empty and no values."""
    launch = Launch().add(ATTRIBUTES, attribute("a", "")).add(ATTRIBUTES, attribute("b"))
    nil = attribute("c")
    value = etree.SubElement(nil, qname("saml:AttributeValue"), nsmap={"xsi": n.XSI})
    value.set(qname("xsi:nil"), "true")
    return launch.add(ATTRIBUTES, nil).sign()


@case("V50", allow=True, origin="IIP-SP02")
def v50_nested_xml_in_another_attribute() -> Launch:
    """Another attribute's value holds a saml:NameID (eduPersonTargetedID)."""
    launch = Launch()
    holder = attribute("urn:oid:1.3.6.1.4.1.5923.1.1.1.10")
    value = below(holder, "saml:AttributeValue")
    below(value, "saml:NameID", "opaque", Format=n.PERSISTENT)
    return launch.add(ATTRIBUTES, holder).sign()


@case("V51", allow=True, each={"name": "emailaddress", "twice": "role"})
def v51_other_claims_twice(name: str) -> Launch:
    """An attribute that nobody asks for occurs twice:"""
    other = n.CLAIMS + name
    return Launch().add(ATTRIBUTES, attribute(other, "a")).add(ATTRIBUTES, attribute(other, "b")).sign()


@case("V52", allow=True)
def v52_base64() -> bytes:
    """The evidence in strict base64, as the POST binding has it."""
    return base64.b64encode(Launch().sign_response().wire())
