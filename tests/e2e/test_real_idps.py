"""What identity providers that nobody here wrote really send, judged through every door."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from lxml import etree

from evidence_service.access.evidence import parse_response
from idp_certs.metadata import parse_metadata
from idp_certs.signature import check_signature, find_signatures
from tests.e2e.browser import GATEWAY
from tests.e2e.doors import (
    ALICE,
    ALLOWED,
    BOB,
    Question,
    RunningService,
    Verdict,
    ask_batch,
    ask_command,
    ask_function,
    denied,
)
from tests.e2e.idps import FORMS, INSTALL, SIGNED_FORMS, RunningIdp, write_key_pair

NAMES = tuple(FORMS)


def each_idp(values: str, cases: Callable[[str], Iterable[tuple[str, tuple[object, ...]]]]) -> pytest.MarkDecorator:
    """Run a test with `idp` and more `values` for each of an identity provider's named `cases`.

    All tests of one identity provider run on one worker, so that it is started once.
    """
    return pytest.mark.parametrize(
        f"idp, {values}",
        [
            pytest.param(name, *case, id=f"{name}-{label}", marks=pytest.mark.xdist_group(f"e2e-{name}"))
            for name in NAMES
            for label, case in cases(name)
        ],
        indirect=["idp"],
    )


both_idps = pytest.mark.parametrize(
    "idp", [pytest.param(name, marks=pytest.mark.xdist_group(f"e2e-{name}")) for name in NAMES], indirect=True
)
every_form = each_idp("form", lambda name: [(form, (form,)) for form in FORMS[name]])


@pytest.fixture
def question(idp: RunningIdp, gateway_key: Path) -> Question:
    """No evidence yet, judged by what `idp` publishes and the usual policy."""
    return Question(evidence=b"", metadata=idp.metadata(), key=gateway_key)


@every_form
def test_genuine_response_is_allowed(idp: RunningIdp, form: str, question: Question) -> None:
    """A fresh response is allowed for its user by the metadata that its identity provider publishes."""
    evidence = idp.sign_in(form).xml

    assert ask_function(dataclasses.replace(question, evidence=evidence)) == ALLOWED


@every_form
def test_genuine_response_is_allowed_by_the_command(
    idp: RunningIdp, form: str, question: Question, tmp_path: Path
) -> None:
    """`fas-evidence check` allows a captured response."""
    evidence = idp.sign_in(form).xml

    assert ask_command(dataclasses.replace(question, evidence=evidence), tmp_path) == ALLOWED


@both_idps
def test_genuine_responses_are_allowed_in_both_encodings(idp: RunningIdp, question: Question, tmp_path: Path) -> None:
    """`fas-evidence check --batch` allows every form as XML and as the base64 that the browser posted."""
    posted = {form: idp.sign_in(form) for form in FORMS[idp.name]}
    questions = {f"{form}-xml": dataclasses.replace(question, evidence=each.xml) for form, each in posted.items()} | {
        f"{form}-base64": dataclasses.replace(question, evidence=each.form) for form, each in posted.items()
    }

    assert ask_batch(questions, tmp_path) == dict.fromkeys(questions, ALLOWED)


@every_form
def test_genuine_response_is_allowed_at_sign_in_and_at_launch(
    idp: RunningIdp, form: str, service: RunningService
) -> None:
    """The running service allows the same evidence again, and records each access as a decision of its own."""
    posted = idp.sign_in(form)

    answers = [service.ask(posted.xml), service.ask(posted.xml), service.ask(posted.form)]

    assert [(answer["decision"], answer["reason"]) for answer in answers] == [("allow", "ok")] * 3
    assert len({answer["decision_id"] for answer in answers}) == 3


def change_byte_after(mark: bytes, occurrence: int = 0) -> Callable[[bytes], bytes]:
    """Change the byte that follows one occurrence of `mark`; a negative number counts from the end."""

    def change(xml: bytes) -> bytes:
        at = [match.end() for match in re.finditer(re.escape(mark), xml)][occurrence]
        return xml[:at] + (b"B" if xml[at : at + 1] == b"A" else b"A") + xml[at + 1 :]

    return change


def keep(xml: bytes) -> bytes:
    """Change nothing."""
    return xml


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """How genuine evidence is made wrong, in one way, and the one reason it is denied for."""

    reason: str
    form: str = "assertion-signed"
    user: str = "alice"
    upn: str = ALICE
    audience: str = GATEWAY
    change: Callable[[bytes], bytes] = keep

    def evidence(self, idp: RunningIdp) -> bytes:
        """Fresh evidence of this kind."""
        return self.change(idp.sign_in(self.form, user=self.user, audience=self.audience).xml)


CONTENT = change_byte_after(b">citrix-")
CIPHER_TEXT = change_byte_after(b"<xenc:CipherValue>", -1)
DESTINATION = change_byte_after(b'Destination="http')

DENIALS = {
    "for-another-user": Denial(reason="upn_mismatch", user="bob"),
    "of-another-user": Denial(reason="upn_mismatch", upn=BOB),
    "for-another-service": Denial(reason="audience_mismatch", audience="https://other.example"),
    "sha1": Denial(reason="signature_algorithm", form="sha1"),
    **{f"{form}-content": Denial(reason="digest_mismatch", form=form, change=CONTENT) for form in SIGNED_FORMS},
    **{
        f"{form}-{part}": Denial(reason="signature_invalid", form=form, change=change_byte_after(b"%sValue>" % mark))
        for form in SIGNED_FORMS
        for part, mark in (("signature", b"Signature"), ("digest", b"Digest"))
    },
    "both-signed-inner-signature": Denial(
        reason="digest_mismatch", form="both-signed", change=change_byte_after(b"SignatureValue>", 2)
    ),
    "unsigned-destination": Denial(reason="destination_mismatch", change=DESTINATION),
    "signed-destination": Denial(reason="digest_mismatch", form="response-signed", change=DESTINATION),
    "cipher-text": Denial(reason="decrypt_failed", form="encrypted-cbc", change=CIPHER_TEXT),
    "signed-cipher-text": Denial(reason="digest_mismatch", form="encrypted-response-signed", change=CIPHER_TEXT),
}
DENIALS_OF_ONE = {
    "simplesamlphp": {"sha512-content": Denial(reason="digest_mismatch", form="sha512", change=CONTENT)},
    "samlp": {"gcm-cipher-text": Denial(reason="decrypt_failed", form="encrypted-gcm", change=CIPHER_TEXT)},
}


def denials(name: str) -> dict[str, Denial]:
    """All denials of the identity provider with this name."""
    return DENIALS | DENIALS_OF_ONE[name]


every_denial = each_idp("denial", lambda name: [(label, (denial,)) for label, denial in denials(name).items()])


@every_denial
def test_wrong_response_is_denied(idp: RunningIdp, denial: Denial, question: Question) -> None:
    """Evidence with one thing wrong is denied for just that reason."""
    asked = dataclasses.replace(question, evidence=denial.evidence(idp), upn=denial.upn)

    assert ask_function(asked) == denied(denial.reason)


@both_idps
def test_wrong_responses_are_denied_by_the_command(idp: RunningIdp, question: Question, tmp_path: Path) -> None:
    """`fas-evidence check --batch` denies all evidence with one thing wrong, for the same reasons."""
    wrong = denials(idp.name)
    questions = {
        label: dataclasses.replace(question, evidence=denial.evidence(idp), upn=denial.upn)
        for label, denial in wrong.items()
    }

    assert ask_batch(questions, tmp_path) == {label: denied(denial.reason) for label, denial in wrong.items()}


@every_denial
def test_wrong_response_is_denied_by_the_service(idp: RunningIdp, denial: Denial, service: RunningService) -> None:
    """The running service denies evidence with one thing wrong and tells the plug-in that reason."""
    answer = service.ask(denial.evidence(idp), upn=denial.upn)

    assert (answer["decision"], answer["reason"]) == ("deny", denial.reason)


@both_idps
@pytest.mark.parametrize(
    ("age", "expected"),
    [
        pytest.param(timedelta(hours=3, minutes=59), ALLOWED, id="within-the-limit"),
        pytest.param(timedelta(hours=4, minutes=10), denied("evidence_too_old"), id="past-the-limit"),
    ],
)
def test_age_is_limited_by_the_policy_and_not_by_the_assertion(
    idp: RunningIdp, age: timedelta, expected: Verdict, question: Question, tmp_path: Path
) -> None:
    """Evidence is good for launches until `max_age`, hours after the assertion's own five minutes have passed."""
    asked = dataclasses.replace(question, evidence=idp.sign_in("both-signed").xml, at=datetime.now(UTC) + age)

    assert ask_function(asked) == expected
    assert ask_command(asked, tmp_path) == expected


@both_idps
def test_identity_provider_that_is_not_registered_is_unknown(
    idp: RunningIdp, other_idp: RunningIdp, service: RunningService, question: Question, tmp_path: Path
) -> None:
    """A genuine response is denied where only another identity provider's metadata was imported."""
    evidence = other_idp.sign_in("both-signed").xml
    asked = dataclasses.replace(question, evidence=evidence)

    assert ask_function(asked) == denied("issuer_unknown")
    assert ask_command(asked, tmp_path) == denied("issuer_unknown")
    assert service.ask(evidence)["reason"] == "issuer_unknown"


@both_idps
@pytest.mark.parametrize("form", SIGNED_FORMS)
def test_name_of_an_identity_provider_does_not_lend_its_trust(
    idp: RunningIdp, other_idp: RunningIdp, form: str, question: Question, tmp_path: Path
) -> None:
    """A genuine response is denied where the name of its issuer is registered with another's certificate."""
    renamed = other_idp.metadata().replace(other_idp.entity_id.encode(), idp.entity_id.encode())
    asked = dataclasses.replace(question, evidence=idp.sign_in(form).xml, metadata=renamed)

    assert ask_function(asked) == denied("signature_invalid")
    assert ask_command(asked, tmp_path) == denied("signature_invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCase:
    """A policy that differs from the usual one by `members`, and what it makes of a genuine response."""

    form: str
    members: str
    expected: Verdict

    def question(self, idp: RunningIdp, usual: Question) -> Question:
        """A genuine response under this policy."""
        changed = self.members.partition(" =")[0]
        kept = [line for line in usual.policy.splitlines() if not line.startswith(f"{changed} =")]
        return dataclasses.replace(usual, evidence=idp.sign_in(self.form).xml, policy="\n".join([*kept, self.members]))


POLICIES = {
    "allow-sha1": PolicyCase(form="sha1", members="allow_sha1 = true", expected=ALLOWED),
    "upn-from-nameid": PolicyCase(form="both-signed", members='upn_from = ["nameid"]', expected=ALLOWED),
    "upn-from-elsewhere": PolicyCase(
        form="both-signed", members='upn_from = ["attribute:userPrincipalName"]', expected=denied("upn_missing")
    ),
    "both-signed": PolicyCase(form="both-signed", members='require_signed = "both"', expected=ALLOWED),
    "assertion-only": PolicyCase(
        form="assertion-signed", members='require_signed = "both"', expected=denied("signature_missing")
    ),
    "response-only": PolicyCase(
        form="response-signed", members='require_signed = "assertion"', expected=denied("signature_missing")
    ),
    "encrypted": PolicyCase(form="encrypted-cbc", members='encryption = "required"', expected=ALLOWED),
    "not-encrypted": PolicyCase(
        form="both-signed", members='encryption = "required"', expected=denied("encryption_required")
    ),
    "encryption-refused": PolicyCase(
        form="encrypted-cbc", members='encryption = "refused"', expected=denied("encrypted_unsupported")
    ),
    "no-decryption-key": PolicyCase(
        form="encrypted-cbc", members="decryption_keys = []", expected=denied("encrypted_unsupported")
    ),
    "suffix-of-others": PolicyCase(
        form="both-signed", members='upn_suffixes = ["contoso.example"]', expected=denied("upn_suffix_not_allowed")
    ),
    "not-on-or-after": PolicyCase(form="both-signed", members="enforce_not_on_or_after = true", expected=ALLOWED),
}


@each_idp("case", lambda _: [(label, (case,)) for label, case in POLICIES.items()])
def test_policy_decides(idp: RunningIdp, case: PolicyCase, question: Question) -> None:
    """What the policy asks of an identity provider is asked of its genuine responses."""
    assert ask_function(case.question(idp, question)) == case.expected


@both_idps
def test_policy_decides_for_the_command(idp: RunningIdp, question: Question, tmp_path: Path) -> None:
    """`fas-evidence check --batch` applies each policy file like the function."""
    questions = {label: case.question(idp, question) for label, case in POLICIES.items()}

    assert ask_batch(questions, tmp_path) == {label: case.expected for label, case in POLICIES.items()}


@both_idps
@pytest.mark.parametrize("form", ["encrypted-cbc", "encrypted-response-signed"])
def test_assertion_encrypted_to_another_service_is_denied(
    idp: RunningIdp, form: str, question: Question, tmp_path: Path
) -> None:
    """A response that only another key can open is denied without saying more."""
    other_key, _ = write_key_pair(tmp_path, "other", "other.example decryption")
    asked = dataclasses.replace(question, evidence=idp.sign_in(form).xml, key=other_key)

    assert ask_function(asked) == denied("decrypt_failed")
    assert ask_command(asked, tmp_path) == denied("decrypt_failed")


@both_idps
def test_recorded_decisions_are_explained_from_their_records(idp: RunningIdp, service: RunningService) -> None:
    """`fas-evidence explain` decides a recorded allow and a recorded deny again, from the record, to the same end."""
    allowed = service.ask(idp.sign_in("both-signed").xml)
    refused = service.ask(idp.sign_in("both-signed", user="bob").xml)

    for answer in (allowed, refused):
        ran = service.command("explain", str(answer["decision_id"]), "-o", "json")
        explained = json.loads(ran.stdout)
        assert ran.returncode == 0
        assert explained["same"] is True
        assert explained["again"]["reason"] == explained["recorded"]["reason"] == answer["reason"]
    assert (allowed["reason"], refused["reason"]) == ("ok", "upn_mismatch")


@each_idp("form", lambda name: [(form, (form,)) for form in FORMS[name] if not form.startswith("encrypted")])
def test_real_responses_keep_the_rules_of_structure(idp: RunningIdp, form: str) -> None:
    """Placement, transforms, algorithms and KeyInfo of genuine signatures are within what is accepted."""
    shape = parse_response(idp.sign_in(form).xml)

    signatures = find_signatures(shape.root, [shape.root, shape.assertion])

    for element, signature in signatures.items():
        check_signature(signature, signed_id=element.get("ID") or "", allow_sha1=False)
    signed = {etree.QName(element).localname for element in signatures}
    assert signed == {"assertion-signed": {"Assertion"}, "response-signed": {"Response"}}.get(
        form, {"Assertion", "Response"}
    )


@each_idp("form", lambda _: [(form, (form,)) for form in SIGNED_FORMS])
def test_xmlsec_agrees(idp: RunningIdp, form: str, question: Question, tmp_path: Path) -> None:
    """An independent verifier accepts every genuine signature that we accept and refuses the content we refuse."""
    xmlsec = shutil.which("xmlsec1")
    if xmlsec is None:
        pytest.skip(f"xmlsec1 is not installed: {INSTALL}")
    (described,) = parse_metadata(question.metadata)
    (certificate,) = described.signing_certificates
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
    genuine = idp.sign_in(form).xml
    command = [
        xmlsec,
        "--verify",
        "--trusted-pem",
        str(trusted),
        "--id-attr:ID",
        "urn:oasis:names:tc:SAML:2.0:protocol:Response",
        "--id-attr:ID",
        "urn:oasis:names:tc:SAML:2.0:assertion:Assertion",
    ]
    signatures = genuine.count(b"SignatureValue>") // 2
    for label, evidence, agrees in (("genuine", genuine, True), ("changed", CONTENT(genuine), False)):
        file = tmp_path / label
        file.write_bytes(evidence)
        for number in range(1, signatures + 1):
            chosen = ["--node-xpath", f"(//*[local-name()='Signature'])[{number}]"]
            ran = subprocess.run([*command, *chosen, str(file)], capture_output=True, timeout=60, check=False)
            assert (ran.returncode == 0) is agrees, ran.stderr
