"""What the machine's world is made of: signed metadata and evidence, a source that can lie, and faults."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from lxml import etree
from sqlalchemy import Connection, Engine, event
from sqlalchemy import exc as sa_exc

from idp_certs.fetch import Fetched, FetchFailed, FetchRules, Source
from idp_certs.reasons import Finding, TrustReason
from tests.core.given import ENTITY_ID, genuine, idp_of
from tests.corpus.metadata_documents import descriptor
from tests.corpus.names import qname
from tests.corpus.sign import How, sign
from tests.trust.model import Document

URL = "https://idp.example/metadata"
RPI = "urn:oasis:names:tc:SAML:metadata:rpi"


@cache
def octets_of(document: Document) -> bytes:
    """The document as XML, signed for real."""
    entity_id = "https://other.example/saml" if document.of_another_idp else ENTITY_ID
    root = descriptor(entity_id, document.lists, element_id="_metadata")
    if document.created is not None:
        extensions = etree.Element(qname("md:Extensions"))
        info = etree.SubElement(extensions, f"{{{RPI}}}PublicationInfo")
        info.set("publisher", ENTITY_ID)
        info.set("creationInstant", document.created.isoformat().replace("+00:00", "Z"))
        root.insert(0, extensions)
    if document.signer is not None:
        sign(root, How(key=document.signer, key_info=(document.signer,), index=0))
    if document.changed:
        root.set("validUntil", "2099-01-01T00:00:00Z")
    return etree.tostring(root)


@cache
def evidence_of(key: str, issued: datetime) -> bytes:
    """Alice's sign-in at that instant, signed by this key."""
    return genuine(idp_of(key=key), issue_instant=issued)


@dataclass
class ScriptedSource:
    """Stands where HTTPS stands: answers with a document, 304 to its ETag, garbage, or nothing."""

    serves: Document | bytes | None

    def __call__(self, source: Source, _rules: FetchRules) -> Fetched:
        """One question."""
        if self.serves is None:
            raise FetchFailed(
                Finding(reason=TrustReason.METADATA_UNREACHABLE, expected="an answer", presented="none", where="url")
            )
        data = octets_of(self.serves) if isinstance(self.serves, Document) else self.serves
        etag = hashlib.sha256(data).hexdigest()
        return Fetched(
            data=None if etag == source.etag else data,
            final_url=source.url,
            etag=etag,
            last_modified=None,
            date=None,
            tls_chain_sha256=("c" * 64,),
            address="192.0.2.1",
        )


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Faults:
    """Breaks one statement of the next transaction that writes: the disk fails, or the process dies."""

    countdown: int | None = None
    crash: bool = False
    fired: bool = field(default=False, init=False)

    def arm(self, statement: int, *, crash: bool) -> None:
        """The so-manieth statement fails; where there are fewer, the commit does."""
        self.countdown, self.crash = statement, crash

    def disarm(self) -> bool:
        """Whether it came to it."""
        fired, self.fired, self.countdown = self.fired, False, None
        return fired

    def attach(self, engine: Engine) -> None:
        """Listen to what the engine does."""

        @event.listens_for(engine, "before_cursor_execute")
        def statement(connection: Connection, *_: Any) -> None:
            if self.countdown is None or not connection.get_execution_options().get("write"):
                return
            if self.countdown == 0:
                self._break()
            self.countdown -= 1

        @event.listens_for(engine, "commit")
        def commit(connection: Connection) -> None:
            if self.countdown is not None and connection.get_execution_options().get("write"):
                self._break()

    def _break(self) -> None:
        self.fired, self.countdown = True, None
        if self.crash:
            raise Crash
        raise sa_exc.OperationalError("statement", None, sqlite3.OperationalError("disk I/O error"))
