"""A metadata server that commands can fetch from, and documents for it to serve."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from tests.cli.given import Place, Ran, document, fas_evidence
from tests.corpus import names
from tests.corpus.metadata_documents import descriptor
from tests.corpus.sign import How, sign
from tests.metadata.server import MetadataServer

PATH = "/md"


def metadata(*certificates: str, by: str | None = None, entity_id: str = names.IDP, until: str | None = None) -> bytes:
    """Metadata that lists these certificates, signed with the key `by`."""
    entity = descriptor(entity_id, certificates, element_id="_m1")
    if until is not None:
        entity.set("validUntil", until)
    if by is not None:
        sign(entity, How(key=by, key_info=(by,), index=0))
    return document(entity)


def altered(content: bytes) -> bytes:
    """The document with one thing changed after it was signed."""
    root = etree.fromstring(content)
    root[-1][-1].set("Location", "https://attacker.example/sso")
    return document(root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A server, and the file with its certificate authority."""

    server: MetadataServer
    ca: Path

    @property
    def url(self) -> str:
        """The address of the metadata."""
        return self.server.url(PATH, host="127.0.0.1")

    def serve(self, content: bytes, *, etag: str | None = None) -> None:
        """Answer with this document from now on."""
        self.server.serve(PATH, content, etag=etag)

    def subscribe(self, *more: str | Path, url: str | None = None) -> Ran:
        """Subscribe, trusting its authority."""
        return fas_evidence("idp", "subscribe", url or self.url, "--ca", self.ca, *more)


@contextlib.contextmanager
def source(place: Place) -> Iterator[Source]:
    """A running server that serves the metadata of the usual IdP, signed by its own key."""
    with MetadataServer() as server:
        ready = Source(server=server, ca=place.write("ca.pem", server.ca_pem))
        ready.serve(metadata("idp", by="idp"))
        yield ready


def states(entity_id: str = names.IDP) -> dict[str, str]:
    """Certificates of the IdP and their states."""
    listed = fas_evidence("key", "list", entity_id, "-o", "json").json
    return {each["sha256"]: each["state"] for each in listed}


def held() -> Sequence[str]:
    """The rollovers that wait."""
    return [each["id"] for each in fas_evidence("rollover", "list", "-o", "json").json]
