"""`key`: what is thought of the keys that IdPs sign with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from evidence_service.adapters.config_store import ConfigStore, StoredIdp
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.idps import certificate_cells, certificate_json, certificate_problems
from evidence_service.cli.output import Output, moment
from evidence_service.cli.session import Session, actor, confirm_typed
from idp_certs.model import CertificateState, SigningCertificate

_SHORTEST_PREFIX = 8
_HEX = frozenset("0123456789abcdef")
_GOOD = (CertificateState.TRUSTED, CertificateState.ANNOUNCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing that an administrator can do to a key.

    `done` is what comes of it, `{}` in it the instant; a certificate in one of `ask` needs a confirmation.
    """

    word: str
    state: CertificateState
    sources: frozenset[CertificateState]
    done: str
    ask: frozenset[CertificateState] = frozenset()


_ALL = frozenset(CertificateState)
REVOKE = Verb(
    word="revoked",
    state=CertificateState.REVOKED,
    sources=_ALL - {CertificateState.REVOKED},
    done="everything signed by it is denied, whenever it was issued",
    ask=_ALL,
)
REINSTATE = Verb(
    word="reinstated",
    state=CertificateState.TRUSTED,
    sources=frozenset({CertificateState.REVOKED, CertificateState.RETIRING, CertificateState.RETIRED}),
    done="what it signs is accepted again",
    ask=frozenset({CertificateState.REVOKED}),
)
RETIRE = Verb(
    word="retired",
    state=CertificateState.RETIRING,
    sources=frozenset(_GOOD),
    done="what it signed before {} is accepted until it is too old, and nothing newer",
)
APPROVE = Verb(
    word="approved",
    state=CertificateState.TRUSTED,
    sources=frozenset({CertificateState.ANNOUNCED}),
    done="what it signs is accepted",
)


def list_keys(session: Session, entity_id: str | None, form: Output) -> int:
    """Print the signing certificates of one IdP, or of all."""
    now = datetime.now(UTC)
    with session.store() as engine:
        store = ConfigStore(engine)
        stored = store.list_idps() if entity_id is None else (store.get_idp(entity_id),)
    if form is Output.JSON:
        output.emit_json(
            [
                {"entity_id": idp.entity_id, "key_sha256": each.key_sha256, **certificate_json(each, now)}
                for idp in stored
                for each in idp.certificates
            ]
        )
        return ExitCode.DONE
    rows = []
    for idp in stored:
        for each in idp.certificates:
            sha256, state, _, _, end, left, key, _ = certificate_cells(each, now)
            rows.append((sha256, state, end, left, key, idp.entity_id))
    columns = ("SHA-256", "state", "not after", "days left", "key", "entity ID")
    output.table(columns, rows, nothing="No key is known. Register an IdP: fas-evidence idp add --metadata FILE")
    for idp in stored:
        for text in () if idp.problem is None else (idp.problem,):
            output.warning(f"{idp.entity_id}: {text}")
        for each in idp.certificates:
            for text in certificate_problems(each, now):
                output.warning(f"certificate {each.sha256}: {text}")
    return ExitCode.DONE


def change_key(
    session: Session, sha256: str, verb: Verb, *, entity_id: str, note: str, confirmed: bool, dry_run: bool
) -> int:
    """Revoke, reinstate, retire or approve; doing it twice changes nothing.

    A revocation is confirmed by the first digits of the SHA-256.

    Raises BadInput for what cannot be meant, NothingFound.
    """
    prefix = _digits(sha256)
    now = datetime.now(UTC)
    with session.store() as engine:
        store = ConfigStore(engine)
        idp = store.get_idp(entity_id)
        if idp.problem is not None:
            raise BadInput(f"{entity_id}: {idp.problem}")
        named = _named(idp, prefix)
        what = f"certificate {named.sha256} of {entity_id}"
        if named.state is verb.state:
            output.line(f"The {what} is {named.state} already.")
            if dry_run:
                output.nothing_changed()
            return ExitCode.DONE
        if named.state not in verb.sources:
            known = " or ".join(sorted(verb.sources))
            raise BadInput(f"the {what} is {named.state}, and only one that is {known} can be {verb.word}")
        concerned = _concerned(idp, named, verb)
        consequence = verb.done.format(moment(now))
        for text in _warnings(idp, concerned, verb):
            output.warning(text)
        if dry_run:
            _tell(concerned, entity_id, f"would be {verb.word}: {consequence}")
            output.nothing_changed()
            return ExitCode.DONE
        if named.state in verb.ask:
            confirm_typed(_question(verb, what), named.sha256[:_SHORTEST_PREFIX], confirmed=confirmed)
        changed = store.set_certificate_state(entity_id, named.sha256, verb.state, now=now, actor=actor(), note=note)
        _tell(changed, entity_id, f"is {verb.word}: {consequence}")
    return ExitCode.DONE


def _question(verb: Verb, what: str) -> str:
    if verb.state is CertificateState.REVOKED:
        return f"Revoking the key of {what} denies at once everything that is signed by it, old or new."
    return f"Reinstating the key of {what} lets whoever has it sign in as any user of that IdP."


def _digits(text: str) -> str:
    """The digits of a SHA-256, or the first of them; colons, as other programs print them, are left out."""
    digits = text.lower().replace(":", "").removesuffix("\u2026")
    if not _SHORTEST_PREFIX <= len(digits) <= 64 or not _HEX.issuperset(digits):
        raise BadInput(
            f"SHA256: {text!r} is not a certificate's SHA-256; give at least its first {_SHORTEST_PREFIX} digits, "
            "as `fas-evidence key list` shows them"
        )
    return digits


def _named(idp: StoredIdp, prefix: str) -> SigningCertificate:
    found = [each for each in idp.certificates if each.sha256.startswith(prefix)]
    if not found:
        raise NothingFound(
            f"{idp.entity_id} has no certificate whose SHA-256 begins with {prefix}; `fas-evidence key list` shows all"
        )
    if len(found) > 1:
        raise BadInput(f"SHA256: {prefix} begins {len(found)} certificates of {idp.entity_id}; give more digits")
    return found[0]


def _concerned(idp: StoredIdp, named: SigningCertificate, verb: Verb) -> tuple[SigningCertificate, ...]:
    """The certificates that change: a revocation, and its end, concern the key and so all of its certificates."""
    if CertificateState.REVOKED not in (verb.state, named.state):
        return (named,)
    return tuple(
        each for each in idp.certificates if each.key_sha256 == named.key_sha256 and each.state is not verb.state
    )


def _warnings(idp: StoredIdp, concerned: Iterable[SigningCertificate], verb: Verb) -> Iterator[str]:
    if verb.state in _GOOD:
        return
    going = {each.sha256 for each in concerned}
    good = [each.sha256 for each in idp.certificates if each.state in _GOOD]
    if going & set(good) and not set(good) - going:
        yield (
            f"it is the last trusted key of {idp.entity_id}: without another one, "
            "all that this IdP issues is denied; import its new metadata"
        )


def _tell(certificates: Iterable[SigningCertificate], entity_id: str, what: str) -> None:
    for each in certificates:
        output.line(f"The certificate {each.sha256} of {entity_id} {what}.")
