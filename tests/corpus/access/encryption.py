"""Encrypted assertions."""

from __future__ import annotations

from collections.abc import Callable

from lxml import etree

from tests.corpus import names as n
from tests.corpus.access.signature import change_signature_value
from tests.corpus.build import case, given
from tests.corpus.encrypt import (
    CBC_MODE,
    GCM,
    MGF1_SHA1,
    MGF1_SHA256,
    OAEP,
    OAEP_MGF1P,
    RSA_15,
    TRIPLE_DES,
    Lock,
    encrypted,
)
from tests.corpus.good import Launch, alone, attribute, claim_upn, evil
from tests.corpus.model import BugType
from tests.corpus.names import qname
from tests.corpus.sign import below, element

ORACLE = BugType.DECRYPTION_ORACLE
WEAK = BugType.WEAK_CRYPTOGRAPHY
WRAP = BugType.WRAPPING
WITH_KEY = {"decryption_keys": ["keys/sp.pem"]}
WITH_TWO_KEYS = {"decryption_keys": ["keys/sp.pem", "keys/sp_old.pem"]}
DATA = "saml:EncryptedAssertion/xenc:EncryptedData"


@case("F01", deny="signature_missing", both=True, policy=WITH_KEY, bug=BugType.SIGNATURE_BYPASS, origin="CVE-2026-2092")
def f01_forged_and_encrypted() -> Launch:
    """A forged, unsigned assertion, encrypted with the public key, which anyone can do."""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).encrypt()


@case("F01", deny="signature_invalid", both=True, policy=WITH_KEY, bug=BugType.KEY_CONFUSION)
def f01_forged_signed_and_encrypted() -> Launch:
    """A forged assertion, signed by the attacker's key and encrypted."""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker", key_info=("attacker",)).encrypt()


@case("F01", deny="signature_missing", policy={**WITH_KEY, "require_signed": "assertion"}, bug=BugType.SIGNATURE_BYPASS)
def f01_only_the_response_signed() -> Launch:
    """The policy asks for a signed assertion; the encrypted one is not, only the Response around it."""
    return Launch().encrypt().sign_response()


@case("F01", deny="signature_missing", policy={**WITH_KEY, "require_signed": "response"}, bug=BugType.SIGNATURE_BYPASS)
def f01_only_the_assertion_signed() -> Launch:
    """The policy asks for a signed Response; only the encrypted assertion is signed."""
    return Launch().sign().encrypt()


@case("F02", deny="encryption_algorithm", policy=WITH_KEY, bug=ORACLE, origin="Bleichenbacher; xmlseclibs 4")
def f02_rsa_1_5() -> Launch:
    """The content key is wrapped with RSA PKCS #1 v1.5."""
    return Launch().sign().encrypt(Lock(transport=RSA_15))


@case(
    "F02",
    deny="encryption_algorithm",
    policy=WITH_KEY,
    bug=WEAK,
    each={
        "unknown": Lock(named_transport="urn:example:wrap"),
        "empty": Lock(named_transport=""),
        "aes_key_wrap": Lock(named_transport=n.XENC + "kw-aes256"),
        "digest_md5": Lock(digest=n.MD5),
        "mgf_unknown": Lock(transport=OAEP, digest=n.SHA256, mgf="urn:example:mgf"),
        "mgf_with_mgf1p": Lock(mgf=MGF1_SHA256),
    },
)
def f02_other_key_transport(lock: Lock) -> Launch:
    """The content key is wrapped in an unknown or unsuited way:"""
    return Launch().sign().encrypt(lock)


@case(
    "F03",
    deny="decrypt_failed",
    policy=WITH_KEY,
    bug=ORACLE,
    origin="CVE-2026-32313 (xmlseclibs), CVE-2026-32600 (xml-security)",
    each={"4_octets": 12, "12_octets": 4, "15_octets": 1, "none": 16},
)
def f03_truncated_tag(cut: int) -> Launch:
    """The AES-GCM tag is cut to:"""
    return Launch().sign().encrypt(Lock(cipher=lambda octets: octets[:-cut]))


def flip(at: int) -> Callable[[bytes], bytes]:
    """Flip one bit of the octet at this index."""

    def act(octets: bytes) -> bytes:
        index = at % len(octets)
        return octets[:index] + bytes([octets[index] ^ 1]) + octets[index + 1 :]

    return act


@case(
    "F04", deny="decrypt_failed", policy=WITH_KEY, bug=ORACLE, each={"nonce": 0, "first": 12, "middle": 700, "tag": -1}
)
def f04_gcm_bit_flip(at: int) -> Launch:
    """One bit of the AES-GCM cipher text is flipped, in its:"""
    return Launch().sign().encrypt(Lock(cipher=flip(at)))


@case(
    "F05",
    deny="decrypt_failed",
    policy=WITH_KEY,
    bug=ORACLE,
    origin="CVE-2011-1096; Jager and Somorovsky 2011",
    each={
        "last_block": flip(-1),
        "block_before_last": flip(-17),
        "first_block": flip(20),
        "initial_vector": flip(0),
        "block_missing": lambda octets: octets[:-16],
        "octet_missing": lambda octets: octets[:-1],
        "only_initial_vector": lambda octets: octets[:16],
        "nothing": lambda _: b"",
        "blocks_swapped": lambda octets: octets[:32] + octets[48:64] + octets[32:48] + octets[64:],
    },
)
def f05_cbc_change(act: Callable[[bytes], bytes]) -> Launch:
    """The AES-CBC cipher text was changed, and every failure looks the same:"""
    return Launch().sign().encrypt(Lock(content=CBC_MODE[128], cipher=act))


@case(
    "F06",
    deny="decrypt_failed",
    policy=WITH_KEY,
    bug=ORACLE,
    each={"empty": b"", "nonce_only": bytes(12), "short": bytes(20)},
)
def f06_short_cipher_text(octets: bytes) -> Launch:
    """The cipher text is too short to be any:"""
    return Launch().sign().encrypt(Lock(cipher=lambda _: octets))


@case("F06", deny="decrypt_failed", policy=WITH_KEY, bug=ORACLE)
def f06_junk_in_cipher_value() -> Launch:
    """CipherValue holds characters outside base64."""
    launch = Launch().sign().encrypt()
    path = f"{DATA}/xenc:CipherData/xenc:CipherValue"
    return launch.text(path, "!*" + (launch.find(path).text or ""))


@case("F06", deny="decrypt_failed", policy=WITH_KEY, bug=BugType.SERVER_SIDE_REQUEST)
def f06_cipher_reference() -> Launch:
    """CipherData holds a CipherReference to an address instead of a CipherValue."""
    launch = Launch().sign().encrypt()
    data = launch.find(f"{DATA}/xenc:CipherData")
    data.remove(data[0])
    below(data, "xenc:CipherReference", URI="http://127.0.0.1:9/cipher")
    return launch


def two_assertions(octets: bytes) -> bytes:
    """The assertion and an evil one."""
    return octets + alone(evil(etree.fromstring(octets)))


@case(
    "F07",
    deny="decrypt_failed",
    policy=WITH_KEY,
    both=True,
    bug=WRAP,
    each={
        "response": lambda _: Launch().sign().wire(),
        "two_assertions": two_assertions,
        "text": lambda _: b"alice@corp.example",
        "nothing": lambda _: b"",
        "text_after": lambda octets: octets + b"x",
        "text_before": lambda octets: b"x" + octets,
        "cut": lambda octets: octets[:-1],
        "other_element": lambda _: b"<x/>",
        "invalid_utf_8": lambda octets: octets.replace(b"alice", b"al\xffce"),
        "nul": lambda octets: octets + b"\0",
        "end_of_the_envelope": lambda octets: octets + b"</plaintext><plaintext>",
    },
)
def f07_plaintext_is_not_one_assertion(act: Callable[[bytes], bytes]) -> Launch:
    """The plaintext is not one Assertion but:"""
    return Launch().sign().encrypt(plaintext=act)


@case(
    "F08",
    deny="assertion_count",
    both=True,
    policy=WITH_KEY,
    bug=WRAP,
    origin="XSW after decryption",
    each={"advice": "saml:Advice", "direct": None},
)
def f08_wrapping_in_the_plaintext(holder: str | None) -> Launch:
    """The plaintext is an evil assertion that holds the signed one:"""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine)
    launch.root.replace(genuine, made)
    (made if holder is None else below(made, holder)).append(genuine)
    return launch.encrypt()


@case("F08", deny="id_duplicate", both=True, policy=WITH_KEY, bug=WRAP)
def f08_wrapping_in_the_plaintext_with_the_same_id() -> Launch:
    """The same, and the evil assertion has the ID of the signed one."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine, new_id=None)
    launch.root.replace(genuine, made)
    below(made, "saml:Advice").append(genuine)
    return launch.encrypt()


@case("F08", deny="digest_mismatch", both=True, policy=WITH_KEY, bug=WRAP)
def f08_changed_before_encryption() -> Launch:
    """The signed assertion was changed and then encrypted."""
    launch = Launch().sign()
    claim_upn(launch.assertion, n.ADMIN)
    return launch.encrypt()


@case("F08", deny="assertion_count", both=True, policy=WITH_KEY, bug=WRAP)
def f08_encrypted_assertion_in_the_plaintext() -> Launch:
    """The plaintext is an assertion whose Advice holds another EncryptedAssertion."""
    launch = Launch()
    inner = encrypted(alone(Launch(assertion_id="_evil1", upn=n.ADMIN).assertion))
    below(launch.assertion, "saml:Advice").append(inner)
    return launch.sign().encrypt()


@case("F08", deny="id_duplicate", policy=WITH_KEY, bug=WRAP)
def f08_response_and_encrypted_assertion_with_one_id() -> Launch:
    """The decrypted assertion has the ID of the Response around it."""
    return Launch(response_id="_assert1").sign().encrypt()


@case("F09", deny="decrypt_failed", policy=WITH_KEY, bug=BugType.DENIAL_OF_SERVICE, origin="xmlseclibs 4")
def f09_fifty_keys() -> Launch:
    """Fifty EncryptedKey elements make work of fifty decryptions."""
    return Launch().sign().encrypt(Lock(to=("sp_foreign",) * 49 + ("sp",)))


@case("F09", deny="decrypt_failed", policy=WITH_KEY, bug=BugType.DENIAL_OF_SERVICE)
def f09_encrypted_data_in_the_plaintext() -> Launch:
    """The plaintext is an EncryptedData."""
    launch = Launch().sign()
    return launch.encrypt(plaintext=lambda octets: alone(encrypted(octets)[0]))


@case("F09", deny="decrypt_failed", policy=WITH_KEY, bug=BugType.WRAPPING)
def f09_encrypted_assertion_as_plaintext() -> Launch:
    """The plaintext is an EncryptedAssertion."""
    launch = Launch().sign()
    return launch.encrypt(plaintext=lambda octets: alone(encrypted(octets)))


@case("F09", deny=("decrypt_failed", "id_duplicate"), policy=WITH_KEY, bug=BugType.WRAPPING)
def f09_two_encrypted_data() -> Launch:
    """EncryptedAssertion holds two EncryptedData."""
    launch = Launch(assertion_id="_evil1", upn=n.ADMIN).encrypt()
    genuine = Launch().sign().encrypt().find(DATA)
    return launch.add("saml:EncryptedAssertion", genuine)


@case(
    "F10",
    deny=("decrypt_failed", "encryption_algorithm"),
    policy=WITH_KEY,
    bug=ORACLE,
    each={"no_method": True, "no_data": False},
)
def f10_part_missing(method: bool) -> Launch:
    """A part of EncryptedAssertion is missing:"""
    launch = Launch().sign().encrypt()
    return launch.drop(f"{DATA}/xenc:EncryptionMethod" if method else DATA)


@case("F10", deny="decrypt_failed", policy=WITH_KEY, bug=ORACLE)
def f10_no_encrypted_key() -> Launch:
    """There is no EncryptedKey."""
    return Launch().sign().encrypt(Lock(to=()))


@case("F11", deny="encrypted_unsupported", bug=BugType.FAIL_OPEN, each={"signed": True, "unsigned": False})
def f11_no_decryption_key(signed: bool) -> Launch:
    """The assertion is encrypted and no decryption key is configured; the Response is:"""
    launch = Launch().sign().encrypt()
    return launch.sign_response() if signed else launch


@case("F11", deny="encrypted_unsupported", policy={**WITH_KEY, "encryption": "refused"}, bug=BugType.CLAIM_BYPASS)
def f11_encryption_refused() -> Launch:
    """The policy refuses encryption."""
    return Launch().sign().encrypt()


@case(
    "F12",
    deny="decrypt_failed",
    policy=WITH_KEY,
    bug=ORACLE,
    each={"one": ("sp_foreign",), "two": ("sp_foreign", "sp_old")},
)
def f12_encrypted_to_another_key(to: tuple[str, ...]) -> Launch:
    """The content key is wrapped for other keys than ours:"""
    return Launch().sign().encrypt(Lock(to=to))


@case("F13", deny="upn_missing", policy={"upn_from": ["nameid"]}, bug=BugType.IDENTITY_CONFUSION)
def f13_encrypted_id() -> Launch:
    """Subject holds an EncryptedID instead of a NameID."""
    launch = Launch()
    name_id = launch.find("saml:Assertion/saml:Subject/saml:NameID")
    subject = launch.find("saml:Assertion/saml:Subject")
    subject.replace(name_id, encrypted(alone(name_id), name="saml:EncryptedID"))
    return launch.sign()


@case("F13", deny="upn_missing", policy=WITH_KEY, bug=BugType.IDENTITY_CONFUSION)
def f13_encrypted_attribute() -> Launch:
    """The UPN attribute is encrypted on its own."""
    launch = Launch()
    statement = launch.find("saml:Assertion/saml:AttributeStatement")
    statement.replace(statement[0], encrypted(alone(statement[0]), name="saml:EncryptedAttribute"))
    return launch.sign()


@case("F14", deny="encryption_required", policy={**WITH_KEY, "encryption": "required"}, bug=BugType.CLAIM_BYPASS)
def f14_plain_where_encryption_is_required() -> Launch:
    """The policy asks for encryption and the assertion is plain."""
    return Launch().sign()


@case("F14", allow=True, policy={**WITH_KEY, "encryption": "required"})
def f14_encrypted_where_encryption_is_required() -> Launch:
    """The policy asks for encryption and the assertion is encrypted."""
    return Launch().sign().encrypt()


@case("F15", deny="signature_invalid", policy=WITH_KEY, bug=WRAP)
def f15_inner_signature_broken() -> Launch:
    """The Response is genuinely signed over an EncryptedAssertion whose own signature is broken."""
    launch = change_signature_value(Launch().sign(), lambda value: bytes([value[0] ^ 1]) + value[1:])
    return launch.encrypt().sign_response()


@case("F15", deny="signature_invalid", policy=WITH_KEY, bug=WRAP)
def f15_inner_signature_by_attacker() -> Launch:
    """The Response is genuine, the encrypted assertion is signed by another key."""
    return Launch().sign(key="attacker", key_info=("attacker",)).encrypt().sign_response()


@case("F15", deny="signature_invalid", policy=WITH_KEY, bug=WRAP)
def f15_outer_signature_by_attacker() -> Launch:
    """The encrypted assertion is genuine, the Response is signed by another key."""
    return Launch().sign().encrypt().sign_response(key="attacker", key_info=("attacker",))


@case("F15", deny="digest_mismatch", policy=WITH_KEY, both=True, bug=WRAP)
def f15_cipher_replaced_in_a_signed_response() -> Launch:
    """Only the Response was signed; its EncryptedAssertion was replaced by a forged one."""
    launch = Launch().encrypt().sign_response()
    forged = Launch(upn=n.ADMIN, name_id=n.ADMIN).encrypt().find("saml:EncryptedAssertion")
    launch.root.replace(launch.find("saml:EncryptedAssertion"), forged)
    return launch


@case("F15", deny="signature_algorithm", policy=WITH_KEY, bug=WEAK)
def f15_inner_signature_with_sha1() -> Launch:
    """The encrypted assertion's own signature is over SHA-1."""
    return Launch().sign(method=n.RSA_SHA1).encrypt()


@case("F15", deny="reference_uri", policy=WITH_KEY, bug=WRAP)
def f15_inner_reference_to_everything() -> Launch:
    """The encrypted assertion's own signature refers to the whole document."""
    return Launch().sign(uri_of_id=False, uri="").encrypt()


@case("F15", deny="signature_placement", policy=WITH_KEY, bug=WRAP)
def f15_signature_below_the_encrypted_assertion() -> Launch:
    """The genuine signature stands beside EncryptedData instead of in the assertion."""
    launch = Launch().sign()
    signature = launch.find("saml:Assertion/ds:Signature")
    launch.assertion.remove(signature)
    launch.encrypt()
    return launch.add("saml:EncryptedAssertion", signature)


@case("F16", deny="encryption_algorithm", policy=WITH_KEY, bug=WEAK, origin="CVE-2016-2183")
def f16_triple_des() -> Launch:
    """The content is encrypted with Triple-DES."""
    return Launch().sign().encrypt(Lock(content=TRIPLE_DES))


@case(
    "F16",
    deny="encryption_algorithm",
    policy=WITH_KEY,
    bug=WEAK,
    each={
        "unknown": "urn:example:cipher",
        "empty": "",
        "camellia": "http://www.w3.org/2001/04/xmldsig-more#camellia256-cbc",
        "chacha": n.XENC11 + "chacha20-poly1305",
        "key_wrap": n.XENC + "kw-aes128",
    },
)
def f16_other_content_encryption(uri: str) -> Launch:
    """The content is encrypted with:"""
    return Launch().sign().encrypt(Lock(named_content=uri))


@case(
    "F17",
    deny="decrypt_failed",
    policy=WITH_KEY,
    bug=ORACLE,
    each={
        "flipped": flip(100),
        "short": lambda octets: octets[:-1],
        "long": lambda octets: octets + b"\0",
        "zeros": lambda octets: bytes(len(octets)),
        "empty": lambda _: b"",
        "larger_than_the_modulus": lambda octets: b"\xff" * len(octets),
    },
)
def f17_changed_encrypted_key(act: Callable[[bytes], bytes]) -> Launch:
    """The wrapped content key was changed; the answer is that of any other failure:"""
    return Launch().sign().encrypt(Lock(wrapped=act))


@case("F17", deny="decrypt_failed", policy=WITH_KEY, bug=ORACLE, each={"short": (128, 256), "long": (256, 128)})
def f17_content_key_of_wrong_length(bits: tuple[int, int]) -> Launch:
    """The content key does not have the length that the algorithm named wants; it is too:"""
    made, named = bits
    return Launch().sign().encrypt(Lock(content=GCM[made], named_content=GCM[named]))


@case("F17", deny="decrypt_failed", policy=WITH_KEY, bug=ORACLE)
def f17_mode_confusion() -> Launch:
    """Encrypted with GCM and named CBC, which takes the tag away."""
    return Launch().sign().encrypt(Lock(named_content=CBC_MODE[256]))


@case("F17", deny="decrypt_failed", policy=WITH_KEY, bug=ORACLE)
def f17_digest_confusion() -> Launch:
    """The content key was wrapped with SHA-256, and the method names no digest, which means SHA-1."""
    launch = Launch().sign().encrypt(Lock(transport=OAEP, digest=n.SHA256, mgf=MGF1_SHA256))
    method = next(launch.root.iter(qname("xenc:EncryptedKey")))[0]
    for child in list(method):
        method.remove(child)
    return launch


@case("F18", deny=("xml_dtd", "decrypt_failed"), policy=WITH_KEY, bug=BugType.DENIAL_OF_SERVICE)
def f18_doctype_in_the_plaintext() -> Launch:
    """The plaintext begins with a DOCTYPE: the same XML rules hold for it."""
    return Launch().sign().encrypt(plaintext=lambda octets: b"<!DOCTYPE r>" + octets)


@case("F18", deny="xml_comment_or_pi", policy=WITH_KEY, bug=BugType.PARSER_DIFFERENTIAL)
def f18_comment_in_the_plaintext() -> Launch:
    """The UPN in the plaintext is cut by a comment."""
    launch = Launch(upn="alice@corp.example.evil.example").sign()
    return launch.encrypt(plaintext=lambda octets: octets.replace(b"example.evil", b"example<!---->.evil"))


@case("F18", deny="xml_limits", policy=WITH_KEY, bug=BugType.DENIAL_OF_SERVICE)
def f18_deep_plaintext() -> Launch:
    """The plaintext is nested 100 levels deep."""
    return (
        Launch()
        .sign()
        .encrypt(
            plaintext=lambda octets: octets.replace(
                b"</saml:Assertion>", b"<x>" * 100 + b"</x>" * 100 + b"</saml:Assertion>"
            )
        )
    )


@case("F19", deny="upn_mismatch", upn=n.ADMIN, policy=WITH_KEY, bug=BugType.IDENTITY_CONFUSION)
def f19_encrypted_for_another_user() -> Launch:
    """A genuine encrypted assertion of alice, presented for the victim: every rule holds for it too."""
    return Launch().sign().encrypt()


@case("F19", deny="issuer_mismatch", policy=WITH_KEY, bug=BugType.CLAIM_BYPASS)
def f19_other_issuer_in_the_plaintext() -> Launch:
    """The Response names the IdP, the decrypted assertion names another."""
    return Launch(issuer=n.OTHER_IDP).sign().encrypt()


@case("F19", deny="saml_version", policy=WITH_KEY, bug=BugType.CLAIM_BYPASS)
def f19_other_version_in_the_plaintext() -> Launch:
    """The decrypted assertion is of version 1.1."""
    return Launch().set("saml:Assertion", Version="1.1").sign().encrypt()


@case("F19", deny="id_missing", policy=WITH_KEY, bug=WRAP)
def f19_no_id_in_the_plaintext() -> Launch:
    """The decrypted assertion has no ID; only the Response is signed."""
    return Launch().set("saml:Assertion", ID=None).encrypt().sign_response()


@case("F19", deny="assertion_count", policy=WITH_KEY, bug=WRAP, each={"two": None, "nested": "ext"})
def f19_two_encrypted_assertions(where: str | None) -> Launch:
    """There are two EncryptedAssertions:"""
    launch = Launch().sign().encrypt()
    other = Launch(assertion_id="_assert2", upn=n.ADMIN).sign().encrypt(Lock(place="beside"))
    extra = other.find("saml:EncryptedAssertion")
    for found in extra.iter():
        found.attrib.pop("Id", None)
    if where is None:
        return launch.add(".", extra)
    holder = element("samlp:Extensions")
    holder.append(extra)
    return launch.add(".", holder, 1)


VALID = {
    "aes_128_gcm": given(Lock(content=GCM[128]), label="V36"),
    "aes_192_gcm": given(Lock(content=GCM[192]), label="V36"),
    "aes_256_gcm": given(Lock(content=GCM[256]), label="V36"),
    "aes_128_cbc": given(Lock(content=CBC_MODE[128]), label="V37"),
    "aes_192_cbc": given(Lock(content=CBC_MODE[192]), label="V37"),
    "aes_256_cbc": given(Lock(content=CBC_MODE[256]), label="V37"),
    "oaep_11_sha_256": given(Lock(transport=OAEP, digest=n.SHA256, mgf=MGF1_SHA256), label="V38"),
    "oaep_11_sha_256_cbc": given(
        Lock(transport=OAEP, digest=n.SHA256, mgf=MGF1_SHA256, content=CBC_MODE[256]), label="V38"
    ),
    "oaep_11_sha_256_with_mgf1_sha_1": given(Lock(transport=OAEP, digest=n.SHA256, mgf=MGF1_SHA1), label="V38"),
    "oaep_11_sha_256_without_mgf": given(Lock(transport=OAEP, digest=n.SHA256), label="V38"),
    "oaep_11_without_parameters": given(Lock(transport=OAEP, digest=None), label="V38"),
    "oaep_11_sha_1": given(Lock(transport=OAEP, digest=n.SHA1, mgf=MGF1_SHA1), label="V38"),
    "oaep_11_sha_512": given(Lock(transport=OAEP, digest=n.SHA512, mgf=MGF1_SHA256), label="V38"),
    "oaep_mgf1p_without_digest": given(Lock(transport=OAEP_MGF1P, digest=None), label="V36"),
    "oaep_mgf1p_sha_256": given(Lock(transport=OAEP_MGF1P, digest=n.SHA256), label="V36"),
    "key_as_sibling_with_retrieval_method": given(Lock(place="sibling"), label="V39"),
    "key_as_sibling": given(Lock(place="beside"), label="V39"),
    "two_encrypted_keys": given(Lock(to=("sp_foreign", "sp")), label="V39"),
    "two_encrypted_keys_ours_first": given(Lock(to=("sp", "sp_foreign")), label="V39"),
}


@case("V36", allow=True, policy=WITH_KEY, each=VALID)
def v36_encrypted(lock: Lock) -> Launch:
    """A signed assertion, encrypted:"""
    return Launch().sign().encrypt(lock)


@case("V37", allow=True, policy=WITH_KEY, each={"gcm": Lock(), "cbc": Lock(content=CBC_MODE[128])})
def v37_only_the_response_signed(lock: Lock) -> Launch:
    """The Response is signed over an encrypted, itself unsigned assertion (Shibboleth, Keycloak):"""
    return Launch().encrypt(lock).sign_response()


@case("V39", allow=True, policy=WITH_TWO_KEYS, each={"new": ("sp",), "old": ("sp_old",), "both": ("sp_old", "sp")})
def v39_two_decryption_keys(to: tuple[str, ...]) -> Launch:
    """We have two decryption keys while ours roll over; encrypted to:"""
    return Launch().sign().encrypt(Lock(to=to))


@case("V40", allow=True, policy={**WITH_KEY, "require_signed": "both"}, origin="Okta: both signed and encrypted")
def v40_everything() -> Launch:
    """The assertion is signed and encrypted, the Response signed around it."""
    return Launch().sign().encrypt().sign_response()


@case("V39", allow=True, policy=WITH_KEY)
def v39_plaintext_relies_on_outer_prefixes() -> Launch:
    """The plaintext uses prefixes that are declared only outside EncryptedAssertion."""
    declarations = (f' xmlns:saml="{n.SAML}"', f' xmlns:samlp="{n.SAMLP}"')

    def strip(octets: bytes) -> bytes:
        text = octets.decode()
        for declaration in declarations:
            text = text.replace(declaration, "", 1)
        return text.encode()

    return Launch().sign().encrypt(plaintext=strip)


@case("V39", allow=True, policy=WITH_KEY)
def v39_blanks_around_the_plaintext() -> Launch:
    """The plaintext has line feeds before and after the assertion."""
    return Launch().sign().encrypt(plaintext=lambda octets: b"\n" + octets + b"\n")


@case("V39", allow=True, policy=WITH_KEY)
def v39_policy_allows_encryption_and_assertion_is_plain() -> Launch:
    """A decryption key is configured and the assertion is plain."""
    return Launch().sign()


@case("V39", allow=True, policy=WITH_KEY)
def v39_encrypted_attribute_beside_the_upn() -> Launch:
    """An attribute other than the UPN is encrypted on its own."""
    launch = Launch()
    extra = encrypted(alone(attribute("mail", "x")), name="saml:EncryptedAttribute")
    return launch.add("saml:Assertion/saml:AttributeStatement", extra).sign()
