"""From the stored configuration to the frozen Snapshot that decisions are judged by, and back from its record."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import Connection, Engine, select

from evidence_service.access.model import FasRule, Mode, Policy, Snapshot
from evidence_service.access.policy import PolicyError, dump_policy, parse_policy
from evidence_service.adapters.config_store import (
    NotFound,
    PluginKind,
    StoredIdp,
    StoredPlugin,
    read_idps,
    read_plugins,
    read_rules,
)
from evidence_service.adapters.database import (
    StoreUnavailable,
    config_state,
    file_of,
    from_microseconds,
    reading,
    snapshots,
    sources,
    to_microseconds,
)
from evidence_service.adapters.idp_rows import read_revoked_keys
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot

_log = logging.getLogger(__name__)

StaleAction = Literal["keep", "deny"]

MAX_METADATA_AGE = timedelta(days=14)
"""How long metadata without validUntil is believed after its import, or after its source last confirmed it, where
stale metadata is to deny."""

_FORMAT = 1


class KeyUnreadable(StoreUnavailable):
    """A decryption key that a policy names cannot be loaded; `str()` is one line with the IdP and the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """Names of the plug-ins that may ask, by SHA-256 (lower-case hex) of certificate (DER) or bearer key."""

    by_certificate: Mapping[str, str] = field(default_factory=dict)
    by_key: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        for name in ("by_certificate", "by_key"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


def load_snapshot(engine: Engine, *, secrets_dir: Path | None, stale_action: StaleAction = "keep") -> Snapshot:
    """Everything decisions are judged by, as stored now.

    An IdP whose rows were changed from outside is present without certificates and with a policy that allows
    nobody, so that it is denied and the others work. Raises KeyUnreadable and StoreUnavailable.
    """
    with reading(engine) as connection:
        trust, _ = _read_trust(connection, stale_action)
    keys, problems = _load_keys(trust.policies, secrets_dir, known={})
    if problems:
        raise KeyUnreadable(problems[0])
    return replace(trust, decryption_keys=keys)


def load_decryption_key(name: str, *, directory: Path | None) -> RSAPrivateKey:
    """An RSA private key from a PEM file: an absolute path, or a name inside `directory`. Raises KeyUnreadable."""
    path = Path(name)
    if not path.is_absolute():
        if directory is None:
            raise KeyUnreadable(f"{name!r} is not an absolute path, and no secrets_dir is set")
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            raise KeyUnreadable(f"{name!r} leads out of {directory}")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyUnreadable(f"{path} cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise KeyUnreadable(f"{path} is protected by a pass phrase; give it without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnreadable(f"{path} holds no private key in PEM form") from error
    if not isinstance(key, RSAPrivateKey):
        raise KeyUnreadable(f"{path} holds another kind of key; XML encryption needs RSA")
    return key


def snapshot_document(snapshot: Snapshot) -> str:
    """The canonical JSON of trust, policies and rules; its SHA-256 is the snapshot's version."""
    trust = snapshot.trust
    removed = {"revoked_at_removed": sorted(trust.revoked_at_removed)} if trust.revoked_at_removed else {}
    return _canonical(
        {
            **removed,  # only where there are any, so that the versions of all other snapshots stay
            "format": _FORMAT,
            "as_of": to_microseconds(trust.as_of),
            "idps": [
                {
                    "entity_id": provider.entity_id,
                    "enabled": provider.enabled,
                    "deny_after": None if provider.deny_after is None else to_microseconds(provider.deny_after),
                    "certificates": [_certificate_out(each) for each in provider.certificates],
                    "policy": _policy_out(snapshot.policies.get(provider.entity_id)),
                }
                for _, provider in sorted(trust.providers.items())
            ],
            "rules": [_rule_out(rule) for _, rule in sorted(snapshot.rules.items())],
        }
    )


def versioned(snapshot: Snapshot) -> Snapshot:
    """The same snapshot with the version that its content has."""
    return replace(snapshot, version=hashlib.sha256(snapshot_document(snapshot).encode()).hexdigest())


def parse_snapshot_document(document: str, *, version: str) -> Snapshot:
    """The Snapshot of a stored document, without decryption keys. Raises StoreUnavailable if it was changed."""
    if hashlib.sha256(document.encode()).hexdigest() != version:
        raise StoreUnavailable(f"the stored snapshot {version} was changed; what it judged cannot be recomputed")
    content = json.loads(document)
    if content["format"] != _FORMAT:
        raise StoreUnavailable(f"the stored snapshot {version} has a format that this software does not know")
    try:
        policies = {
            each["entity_id"]: parse_policy(each["policy"]) for each in content["idps"] if each["policy"] is not None
        }
    except PolicyError as error:
        raise StoreUnavailable(f"the stored snapshot {version} holds a policy that cannot be read: {error}") from error
    return Snapshot(
        version=version,
        trust=TrustSnapshot(
            providers={each["entity_id"]: _provider_in(each) for each in content["idps"]},
            as_of=from_microseconds(content["as_of"]),
            revoked_at_removed=frozenset(content.get("revoked_at_removed", ())),
        ),
        policies=policies,
        rules={each["name"]: _rule_in(each) for each in content["rules"]},
    )


def stored_snapshot(engine: Engine, version: str, *, secrets_dir: Path | None = None) -> Snapshot:
    """The snapshot of this version, if anything was judged by it; keys that still exist are loaded again.

    Raises NotFound and StoreUnavailable.
    """
    with reading(engine) as connection:
        document = connection.scalar(select(snapshots.c.document).where(snapshots.c.version == version))
    if document is None:
        raise NotFound(f"no snapshot {version!r} is stored")
    snapshot = parse_snapshot_document(document, version=version)
    keys, problems = _load_keys(snapshot.policies, secrets_dir, known={})
    for problem in problems:
        _log.warning("a decision on encrypted evidence may not be recomputed: %s", problem)
    return replace(snapshot, decryption_keys=keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    snapshot: Snapshot
    plugins: Plugins
    subscribed: frozenset[str]
    counter: object
    file: object
    problems: tuple[str, ...]


class SnapshotHolder:
    """The snapshot in force and the plug-ins, replaced together and as a whole.

    `current`, `plugins` and `problems` do no I/O. `refresh` may be called from any thread, one call at a time.
    """

    def __init__(self, engine: Engine, *, secrets_dir: Path | None, stale_action: StaleAction = "keep") -> None:
        """Load. Raises KeyUnreadable and StoreUnavailable: better no start than one that denies by surprise."""
        self._engine = engine
        self._secrets_dir = secrets_dir
        self._stale_action = stale_action
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._state = self._load(known=None)
        self._refreshed = time.monotonic()

    def current(self) -> Snapshot:
        """The snapshot in force."""
        return self._state.snapshot

    @property
    def plugins(self) -> Plugins:
        """The plug-ins that may ask now."""
        return self._state.plugins

    @property
    def subscribed(self) -> frozenset[str]:
        """Entity IDs of the IdPs whose metadata is fetched from a source."""
        return self._state.subscribed

    @property
    def problems(self) -> tuple[str, ...]:
        """What an operator must know: damaged rows, unreadable keys, a store that cannot be read. One line each."""
        return self._state.problems if self._failure is None else (*self._state.problems, self._failure)

    @property
    def age(self) -> timedelta:
        """How long ago the store was last asked with success; grows while it cannot be read (`store_grace`)."""
        return timedelta(seconds=time.monotonic() - self._refreshed)

    def refresh(self) -> bool:
        """Take over what was configured since; one indexed read if nothing was. Returns whether it was.

        With the store unreadable the old state stays. An unreadable decryption key never holds back a change of
        trust: the key loaded before is used on, or none, and `problems` says so.
        """
        with self._lock:
            try:
                with reading(self._engine) as connection:
                    counter = connection.scalar(select(config_state.c.counter))
                    file = file_of(connection)
                replaced = file != self._state.file
                swap = replaced or counter != self._state.counter
                if replaced:
                    _log.warning("the database file was replaced; the configuration in it is taken over")
                if swap:
                    self._state = self._load(known=self._state.snapshot.decryption_keys)
            except Exception as error:  # noqa: BLE001 - whatever it is, the old state is the safe one
                problem = str(error) if isinstance(error, StoreUnavailable) else f"{type(error).__name__} while loading"
                if problem != self._failure:
                    _log.error("configuration not refreshed, the old one stays: %s", problem)
                self._failure = problem
                return False
            if self._failure is not None:
                _log.info("configuration is refreshed again")
            self._failure = None
            self._refreshed = time.monotonic()
            return swap

    def _load(self, *, known: Mapping[str, RSAPrivateKey] | None) -> _State:
        with reading(self._engine) as connection:
            counter, file = connection.scalar(select(config_state.c.counter)), file_of(connection)
            trust, damaged = _read_trust(connection, self._stale_action)
            stored = read_plugins(connection)
            subscribed = frozenset(connection.scalars(select(sources.c.entity_id)))
        damaged += tuple(f"plug-in {each.name} is refused: {each.problem}" for each in stored if each.problem)
        keys, missing = _load_keys(trust.policies, self._secrets_dir, known=known or {})
        if missing and known is None:
            raise KeyUnreadable(missing[0])
        for problem in (*damaged, *missing):
            _log.error("%s", problem)
        return _State(
            snapshot=replace(trust, decryption_keys=keys),
            plugins=_plugins(stored),
            subscribed=subscribed,
            counter=counter,
            file=file,
            problems=(*damaged, *missing),
        )


def _read_trust(connection: Connection, stale_action: StaleAction) -> tuple[Snapshot, tuple[str, ...]]:
    stored, rules = read_idps(connection), read_rules(connection)
    as_of = connection.scalar(select(config_state.c.trust_changed_at))
    if as_of is None:
        raise StoreUnavailable("the database lacks its configuration counter; restore a backup")
    snapshot = Snapshot(
        version="",
        trust=TrustSnapshot(
            providers={
                idp.entity_id: IdentityProvider(
                    entity_id=idp.entity_id,
                    certificates=idp.certificates,
                    enabled=idp.enabled,
                    deny_after=_deny_after(idp, stale_action),
                )
                for idp in stored
            },
            as_of=as_of,
            revoked_at_removed=read_revoked_keys(connection, of_removed=True),
        ),
        policies={idp.entity_id: idp.policy for idp in stored},
        # Damaged rows last: what they deny stays denied, whatever else has the name.
        rules={rule.name: rule for rule, _ in sorted(rules, key=lambda each: each[1] is not None)},
    )
    damaged = (
        *(f"{idp.entity_id} is denied: {idp.problem}" for idp in stored if idp.problem is not None),
        *(f"rule {rule.name} denies: {problem}" for rule, problem in rules if problem is not None),
    )
    return versioned(snapshot), damaged


def _deny_after(idp: StoredIdp, stale_action: StaleAction) -> datetime | None:
    if stale_action == "keep" or idp.problem is not None:
        return None
    return idp.valid_until if idp.valid_until is not None else (idp.refreshed_at or idp.imported_at) + MAX_METADATA_AGE


def _plugins(stored: tuple[StoredPlugin, ...]) -> Plugins:
    valid = [plugin for plugin in stored if plugin.revoked_at is None and plugin.problem is None]
    return Plugins(
        by_certificate={each.fingerprint: each.name for each in valid if each.kind is PluginKind.CERTIFICATE},
        by_key={each.fingerprint: each.name for each in valid if each.kind is PluginKind.BEARER},
    )


def _load_keys(
    policies: Mapping[str, Policy], secrets_dir: Path | None, *, known: Mapping[str, RSAPrivateKey]
) -> tuple[dict[str, RSAPrivateKey], tuple[str, ...]]:
    keys: dict[str, RSAPrivateKey] = {}
    problems = []
    for entity_id, policy in sorted(policies.items()):
        for name in policy.decryption_keys:
            if name in keys:
                continue
            try:
                keys[name] = load_decryption_key(name, directory=secrets_dir)
            except KeyUnreadable as error:
                problems.append(f"decryption_keys of {entity_id}: {error}")
                if name in known:
                    keys[name] = known[name]
    return keys, tuple(problems)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _policy_out(policy: Policy | None) -> str | None:
    return None if policy is None else dump_policy(policy)


def _certificate_out(certificate: SigningCertificate) -> dict[str, object]:
    return {
        "der": base64.b64encode(certificate.der).decode(),
        "state": certificate.state.value,
        "since": to_microseconds(certificate.since),
        "provenance": certificate.provenance,
    }


def _rule_out(rule: FasRule) -> dict[str, object]:
    return {
        "name": rule.name,
        "mode": rule.mode.value,
        "max_age_us": None if rule.max_age is None else rule.max_age // timedelta(microseconds=1),
        "entity_ids": None if rule.entity_ids is None else sorted(rule.entity_ids),
    }


def _provider_in(content: Mapping[str, Any]) -> IdentityProvider:
    return IdentityProvider(
        entity_id=content["entity_id"],
        enabled=content["enabled"],
        deny_after=None if content["deny_after"] is None else from_microseconds(content["deny_after"]),
        certificates=tuple(
            SigningCertificate(
                der=base64.b64decode(each["der"]),
                state=CertificateState(each["state"]),
                since=from_microseconds(each["since"]),
                provenance=each["provenance"],
            )
            for each in content["certificates"]
        ),
    )


def _rule_in(content: Mapping[str, Any]) -> FasRule:
    return FasRule(
        name=content["name"],
        mode=Mode(content["mode"]),
        max_age=None if content["max_age_us"] is None else timedelta(microseconds=content["max_age_us"]),
        entity_ids=None if content["entity_ids"] is None else frozenset(content["entity_ids"]),
    )
