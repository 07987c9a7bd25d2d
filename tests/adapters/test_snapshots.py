from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, text

from evidence_service.access.model import (
    Encryption,
    FasRule,
    Mode,
    Policy,
    RequireSigned,
    Reuse,
    Snapshot,
    UpnMapping,
)
from evidence_service.adapters import database
from evidence_service.adapters.config_store import ConfigStore, NotFound
from evidence_service.adapters.database import StoreUnavailable, open_database, writing
from evidence_service.adapters.snapshots import (
    MAX_METADATA_AGE,
    KeyUnreadable,
    SnapshotHolder,
    StaleAction,
    load_decryption_key,
    load_snapshot,
    parse_snapshot_document,
    snapshot_document,
    stored_snapshot,
)
from evidence_service.adapters.trust_store import SourceConfig, TrustStore
from idp_certs.model import Acceptance, CertificateState
from idp_certs.rollover import Event
from tests.adapters.given import (
    ACTOR,
    DOCUMENT,
    LATER,
    NOW,
    POLICY,
    acted,
    backed_up,
    der,
    imported,
    metadata,
    put_in_place,
    url_of,
)
from tests.corpus import keys, names

UNUSUAL = Policy(
    audiences=("https://a.example", 'quote" and \\ and ü'),
    recipients=("https://b.example",),
    upn_from=("nameid", "attribute:urn:x"),
    upn_suffixes=("corp.example",),
    upn_map=(UpnMapping(source="@a.example", target="@b.example"),),
    max_age=timedelta(hours=1, minutes=2, seconds=3),
    max_authentication_age=timedelta(days=2),
    clock_skew=timedelta(seconds=7),
    reuse=Reuse.FRESH_ONCE,
    fresh_within=timedelta(seconds=90),
    enforce_not_on_or_after=True,
    enforce_session_expiry=False,
    enforce_certificate_dates=True,
    authn_contexts=("urn:mfa",),
    allow_sha1=True,
    require_signed=RequireSigned.BOTH,
    encryption=Encryption.REFUSED,
    acceptance=Acceptance.APPROVAL,
)


def stored(engine: Engine, snapshot: Snapshot) -> None:
    """Put the snapshot's document where the writer of decisions puts it."""
    with writing(engine) as connection:
        connection.execute(
            insert(database.snapshots).values(
                version=snapshot.version, document=snapshot_document(snapshot), stored_at=NOW
            )
        )


def key_file(directory: Path, name: str = "idp_encryption", *, content: str | None = None) -> Path:
    """A private key as a PEM file."""
    path = directory / f"{name}.pem"
    path.write_text(content if content is not None else (keys.HERE / f"{name}.pem").read_text())
    return path


def test_the_snapshot_is_what_was_configured(store: ConfigStore, engine: Engine) -> None:
    """Providers with their certificates and states, policies, rules."""
    imported(store, "idp", "idp_next", policy=UNUSUAL)
    imported(store, "idp_next", policy=None, now=LATER)
    imported(store, "idp_b", entity_id=names.OTHER_IDP, policy=None)
    store.set_idp_enabled(names.OTHER_IDP, False, now=LATER, actor=ACTOR)
    store.set_rule(FasRule(name="default", mode=Mode.OBSERVE), now=LATER, actor=ACTOR)
    snapshot = load_snapshot(engine, secrets_dir=None)
    provider = snapshot.trust.providers[names.IDP]
    assert [(each.sha256, each.state, each.since) for each in provider.certificates] == [
        (keys.fingerprint("idp_next"), CertificateState.TRUSTED, NOW),
        (keys.fingerprint("idp"), CertificateState.RETIRING, LATER),
    ]
    assert provider.enabled
    assert not snapshot.trust.providers[names.OTHER_IDP].enabled
    assert snapshot.policies == {names.IDP: UNUSUAL, names.OTHER_IDP: Policy()}
    assert snapshot.rules == {"default": FasRule(name="default", mode=Mode.OBSERVE)}
    assert snapshot.trust.as_of == LATER


def test_a_snapshot_comes_back_from_its_document(store: ConfigStore, engine: Engine) -> None:
    """Promise 19: nothing that a decision depends on is lost, and the version is the digest of the document."""
    imported(store, "idp", "p256", policy=UNUSUAL)
    store.set_rule(
        FasRule(name="r", max_age=timedelta(microseconds=1), entity_ids=frozenset({"b", "a"})), now=NOW, actor=ACTOR
    )
    snapshot = load_snapshot(engine, secrets_dir=None, stale_action="deny")
    document = snapshot_document(snapshot)
    assert snapshot.version == hashlib.sha256(document.encode()).hexdigest()
    assert parse_snapshot_document(document, version=snapshot.version) == snapshot
    stored(engine, snapshot)
    imported(store, "idp_next", now=LATER)
    assert stored_snapshot(engine, snapshot.version) == snapshot
    with pytest.raises(NotFound, match="'unknown'"):
        stored_snapshot(engine, "unknown")


def test_a_changed_document_is_refused(store: ConfigStore, engine: Engine) -> None:
    """A stored snapshot that was edited judges nothing."""
    imported(store, "idp")
    snapshot = load_snapshot(engine, secrets_dir=None)
    stored(engine, snapshot)
    with writing(engine) as connection:
        connection.execute(text("UPDATE snapshots SET document = replace(document, 'gw.example', 'ev.example')"))
    with pytest.raises(StoreUnavailable, match="was changed"):
        stored_snapshot(engine, snapshot.version)


def test_a_document_of_an_unknown_format_is_refused() -> None:
    """Newer software wrote it."""
    document = json.dumps({"format": 2})
    with pytest.raises(StoreUnavailable, match="format"):
        parse_snapshot_document(document, version=hashlib.sha256(document.encode()).hexdigest())


def test_the_version_depends_on_what_decisions_depend_on(store: ConfigStore, engine: Engine) -> None:
    """The same configuration has the same version in each process; a plug-in does not change it, a rule does."""
    imported(store, "idp")
    first = load_snapshot(engine, secrets_dir=None).version
    store.enroll_plugin(name="p", bearer_key_sha256="a" * 64, now=LATER, actor=ACTOR)
    assert load_snapshot(engine, secrets_dir=None).version == first
    store.set_rule(FasRule(name="r"), now=LATER, actor=ACTOR)
    assert load_snapshot(engine, secrets_dir=None).version != first


def test_a_damaged_idp_is_denied_and_the_others_work(store: ConfigStore, engine: Engine) -> None:
    """Promise 23: a row changed from outside costs that IdP its certificates, not the service its start."""
    imported(store, "idp")
    imported(store, "idp_b", entity_id=names.OTHER_IDP)
    with writing(engine) as connection:
        connection.execute(
            text("UPDATE certificates SET der = :der WHERE entity_id = :id"), {"der": der("attacker"), "id": names.IDP}
        )
    holder = SnapshotHolder(engine, secrets_dir=None)
    snapshot = holder.current()
    assert snapshot.trust.providers[names.IDP].certificates == ()
    assert snapshot.policies[names.IDP] == Policy()
    assert [each.sha256 for each in snapshot.trust.providers[names.OTHER_IDP].certificates] == [
        keys.fingerprint("idp_b")
    ]
    (problem,) = holder.problems
    assert names.IDP in problem
    assert "changed from outside" in problem


@pytest.mark.parametrize(
    ("action", "valid_for", "expected"),
    [
        ("keep", None, None),
        ("keep", timedelta(days=2), None),
        ("deny", timedelta(days=2), timedelta(days=2)),
        ("deny", None, MAX_METADATA_AGE),
    ],
)
def test_stale_metadata_denies_only_where_set(
    store: ConfigStore, engine: Engine, action: StaleAction, valid_for: timedelta | None, expected: timedelta | None
) -> None:
    """`deny_after` is validUntil, or two weeks after the import where there is none (promise 26)."""
    document = metadata("idp", valid_until=None if valid_for is None else NOW + valid_for)
    store.add_idp(metadata=document, document=DOCUMENT, policy=POLICY, now=NOW, actor=ACTOR)
    provider = load_snapshot(engine, secrets_dir=None, stale_action=action).trust.providers[names.IDP]
    assert provider.deny_after == (None if expected is None else NOW + expected)


def test_metadata_without_valid_until_ages_from_its_last_confirmation(store: ConfigStore, engine: Engine) -> None:
    """Promise 26: a refresh makes it young again, and running processes take that over; so does an upload."""
    imported(store, "idp")
    trust = TrustStore(engine)
    trust.add_source(
        entity_id=names.IDP,
        source=SourceConfig(url="https://idp.example"),
        now=NOW,
        actor=ACTOR,
        jitter=0.0,
        seen=None,
    )
    holder = SnapshotHolder(engine, secrets_dir=None, stale_action="deny")
    assert holder.current().trust.providers[names.IDP].deny_after == NOW + MAX_METADATA_AGE
    claim = trust.claim_one(names.IDP, LATER, owner="w", lease=timedelta(minutes=1))
    assert claim is not None
    assert trust.publish_unmodified(claim, now=LATER, next_attempt_at=LATER, served_at=None)
    assert holder.refresh()
    assert holder.current().trust.providers[names.IDP].deny_after == LATER + MAX_METADATA_AGE
    assert holder.current().trust.as_of == NOW, "what is trusted has not changed"
    upload = LATER + timedelta(days=1)
    imported(store, "idp", now=upload)
    assert holder.refresh()
    assert holder.current().trust.providers[names.IDP].deny_after == upload + MAX_METADATA_AGE


def test_decryption_keys_come_from_files_and_from_the_secrets_directory(
    store: ConfigStore, engine: Engine, tmp_path: Path
) -> None:
    """By absolute path or by name; the snapshot maps the names that the policy uses."""
    absolute = str(key_file(tmp_path))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    key_file(secrets, "sp")
    imported(store, "idp", policy=replace(POLICY, decryption_keys=(absolute, "sp.pem")))
    snapshot = load_snapshot(engine, secrets_dir=secrets)
    assert set(snapshot.decryption_keys) == {absolute, "sp.pem"}
    expected = keys.rsa_key("sp").private_numbers()
    assert snapshot.decryption_keys["sp.pem"].private_numbers() == expected
    stored(engine, snapshot)
    again = stored_snapshot(engine, snapshot.version, secrets_dir=secrets)
    assert again.decryption_keys["sp.pem"].private_numbers() == expected
    assert "PRIVATE" not in snapshot_document(snapshot)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("missing.pem", lambda _: None, "cannot be read"),
        ("sp.pem", lambda path: key_file(path, "sp", content="nonsense"), "no private key in PEM"),
        ("p256.pem", lambda path: key_file(path, "p256"), "needs RSA"),
        ("../outside.pem", lambda path: key_file(path.parent, "outside", content="x"), "leads out of"),
    ],
)
def test_an_unreadable_decryption_key_stops_the_start(  # noqa: PLR0917
    store: ConfigStore, engine: Engine, tmp_path: Path, name: str, make: Callable[[Path], object], words: str
) -> None:
    """H09: one line names the IdP and the file; nothing starts with a key that silently is not there."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    make(secrets)
    imported(store, "idp", policy=replace(POLICY, decryption_keys=(name,)))
    for load in (load_snapshot, SnapshotHolder):
        with pytest.raises(KeyUnreadable) as caught:
            load(engine, secrets_dir=secrets)
        message = str(caught.value)
        assert names.IDP in message
        assert name.rpartition("/")[2] in message
        assert words in message
        assert "\n" not in message


def test_a_relative_key_needs_a_secrets_directory() -> None:
    """The message names the setting."""
    with pytest.raises(KeyUnreadable, match="secrets_dir"):
        load_decryption_key("sp.pem", directory=None)


def test_a_refresh_swaps_trust_and_plugins_together(store: ConfigStore, engine: Engine) -> None:
    """What was handed out stays as it was; the next question sees all of the change."""
    imported(store, "idp")
    holder = SnapshotHolder(engine, secrets_dir=None)
    before = holder.current()
    assert not holder.refresh()
    assert holder.current() is before
    store.enroll_plugin(name="cert", certificate_der=der("leaf"), now=NOW, actor=ACTOR)
    store.enroll_plugin(name="key", bearer_key_sha256="a" * 64, now=NOW, actor=ACTOR)
    acted(engine, Event.REVOKE, now=LATER)
    assert holder.plugins.by_key == {}
    assert holder.refresh()
    assert holder.plugins.by_certificate == {keys.fingerprint("leaf"): "cert"}
    assert holder.plugins.by_key == {"a" * 64: "key"}
    assert holder.current().trust.providers[names.IDP].certificates[-1].state is CertificateState.REVOKED
    assert before.trust.providers[names.IDP].certificates[0].state is CertificateState.TRUSTED
    store.revoke_plugin("cert", now=LATER, actor=ACTOR)
    assert holder.refresh()
    assert holder.plugins.by_certificate == {}


def test_an_unreadable_key_does_not_hold_back_a_revocation(store: ConfigStore, engine: Engine, tmp_path: Path) -> None:
    """Promise 35: trust follows the store; the key loaded before stays in use and the problem is shown."""
    path = key_file(tmp_path, "sp")
    imported(store, "idp", "idp_next", policy=replace(POLICY, decryption_keys=(str(path),)))
    holder = SnapshotHolder(engine, secrets_dir=None)
    path.unlink()
    missing = str(tmp_path / "never.pem")
    store.set_policy(names.IDP, replace(POLICY, decryption_keys=(str(path), missing)), now=NOW, actor=ACTOR)
    acted(engine, Event.REVOKE, now=LATER)
    assert holder.refresh()
    assert holder.current().trust.providers[names.IDP].certificates[-1].state is CertificateState.REVOKED
    assert set(holder.current().decryption_keys) == {str(path)}
    assert len(holder.problems) == 2
    path.write_text((keys.HERE / "sp.pem").read_text())
    store.set_policy(names.IDP, replace(POLICY, decryption_keys=(str(path),)), now=NOW, actor=ACTOR)
    assert holder.refresh()
    assert not holder.problems


def test_a_store_that_cannot_be_read_keeps_the_old_state(tmp_path: Path) -> None:
    """The age grows from then on (`store_grace`), the problem is shown, and it heals by itself."""
    path = tmp_path / "a.db"
    engine = open_database(url_of(path))
    imported(ConfigStore(engine), "idp")
    holder = SnapshotHolder(engine, secrets_dir=None)
    before = holder.current()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE config_state RENAME TO away")
    connection.commit()
    holder._refreshed -= 3600
    assert not holder.refresh()
    assert holder.current() is before
    assert holder.age > timedelta(hours=1)
    (problem,) = holder.problems
    assert "\n" not in problem
    connection.execute("ALTER TABLE away RENAME TO config_state")
    connection.commit()
    connection.close()
    assert not holder.refresh()
    assert holder.age < timedelta(hours=1)
    assert holder.problems == ()
    engine.dispose()


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="Windows does not let go of the name of an open file")
def test_a_restored_database_is_taken_over_whatever_its_counter(tmp_path: Path) -> None:
    """Promise 35: a backup of the same counter, in which another certificate is revoked, is what counts."""
    path = tmp_path / "a.db"
    engine = open_database(url_of(path))
    store = ConfigStore(engine)
    imported(store, "idp", "idp_next")
    backup = backed_up(path)
    other = open_database(url_of(backup))
    acted(other, Event.REVOKE, now=LATER)
    other.dispose()
    store.set_idp_enabled(names.IDP, True, now=LATER, actor=ACTOR)
    holder = SnapshotHolder(engine, secrets_dir=None)
    put_in_place(backup, path)
    assert holder.refresh()
    assert holder.current().trust.providers[names.IDP].certificates[-1].state is CertificateState.REVOKED
    assert holder.problems == ()
    assert not holder.refresh()
    engine.dispose()


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="Windows does not let go of the name of an open file")
def test_a_removed_database_is_an_unreadable_store(tmp_path: Path) -> None:
    """Promise 35: trust does not stay fresh by reading a file without a name, and none is made up in its place."""
    path = tmp_path / "a.db"
    engine = open_database(url_of(path))
    imported(ConfigStore(engine), "idp")
    holder = SnapshotHolder(engine, secrets_dir=None)
    before, age = holder.current(), holder.age
    for each in tmp_path.iterdir():
        each.unlink()
    assert not holder.refresh()
    assert holder.current() is before
    assert holder.age > age
    (problem,) = holder.problems
    assert "a.db" in problem
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreUnavailable, match=r"a\.db"):
        ConfigStore(engine).set_idp_enabled(names.IDP, False, now=LATER, actor=ACTOR)
    engine.dispose()


def changed_outside(path: Path, statement: str, *values: object) -> None:
    """Change the database as another program would; running processes are told to look."""
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.execute("UPDATE config_state SET counter = counter + 1")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rules SET mode = 'observe' WHERE name = 'default'",
        "UPDATE rules SET mode = 'bogus' WHERE name = 'default'",
        "UPDATE rules SET max_age_us = 1e300 WHERE name = 'default'",
        "UPDATE rules SET entity_ids = NULL WHERE name = 'default'",
        "UPDATE rules SET entity_ids = '[' WHERE name = 'default'",
        "UPDATE rules SET mode = CAST(x'ff' AS TEXT) WHERE name = 'default'",
        "UPDATE rules SET digest = '' WHERE name = 'default'",
        "INSERT INTO rules (name, mode, digest) VALUES ('new', 'observe', '')",
        "UPDATE rules SET name = x'ff' WHERE name = 'default'",
        "UPDATE rules SET name = CAST(x'ff' AS TEXT) WHERE name = 'default'",
    ],
)
def test_a_damaged_rule_denies_and_holds_nothing_back(
    store: ConfigStore, engine: Engine, tmp_path: Path, statement: str
) -> None:
    """Promise 23, promise 35: it is enforced and allows no IdP; a revocation after it arrives, and so does a start."""
    imported(store, "idp")
    store.set_rule(FasRule(name="default", entity_ids=frozenset({names.IDP})), now=NOW, actor=ACTOR)
    holder = SnapshotHolder(engine, secrets_dir=None)
    assert holder.problems == ()
    changed_outside(tmp_path / "fas-evidence.db", statement)
    acted(engine, Event.REVOKE, now=LATER)
    assert holder.refresh()
    for each in (holder, SnapshotHolder(engine, secrets_dir=None)):
        snapshot = each.current()
        assert snapshot.trust.providers[names.IDP].certificates[-1].state is CertificateState.REVOKED
        (problem,) = each.problems
        assert "changed from outside" in problem
        damaged = [rule for rule in snapshot.rules.values() if rule.entity_ids == frozenset()]
        assert len(damaged) == 1
        assert damaged[0].mode is Mode.ENFORCE
        assert parse_snapshot_document(snapshot_document(snapshot), version=snapshot.version).rules == snapshot.rules
    store.set_rule(FasRule(name="default"), now=LATER, actor=ACTOR)
    assert FasRule(name="default") in store.list_rules()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE plugins SET revoked_at = NULL WHERE name = 'gone'",
        "UPDATE plugins SET kind = 'bogus' WHERE name = 'gone'",
        "UPDATE plugins SET fingerprint = '" + "c" * 64 + "' WHERE name = 'gone'",
        "UPDATE plugins SET fingerprint = x'ff' WHERE name = 'gone'",
        "UPDATE plugins SET certificate = 'text' WHERE name = 'gone'",
        "UPDATE plugins SET enrolled_at = 'soon' WHERE name = 'gone'",
        "UPDATE plugins SET name = CAST(x'ff' AS TEXT) WHERE name = 'gone'",
        "INSERT INTO plugins (name, kind, fingerprint, certificate, enrolled_at, enrolled_by, digest) "
        "VALUES ('aaa', 'certificate', '" + "c" * 64 + "', x'00', 0, 'x', '')",
    ],
)
def test_a_damaged_plugin_is_refused_and_holds_nothing_back(
    store: ConfigStore, engine: Engine, tmp_path: Path, statement: str
) -> None:
    """Promise 23: a revocation cannot be undone from outside, nor a plug-in slipped in; the next one is enrolled."""
    store.enroll_plugin(name="gone", bearer_key_sha256="a" * 64, now=NOW, actor=ACTOR)
    store.revoke_plugin("gone", now=NOW, actor=ACTOR)
    holder = SnapshotHolder(engine, secrets_dir=None)
    assert holder.problems == ()
    changed_outside(tmp_path / "fas-evidence.db", statement)
    store.enroll_plugin(name="next", certificate_der=der("leaf"), now=LATER, actor=ACTOR)
    assert holder.refresh()
    for each in (holder, SnapshotHolder(engine, secrets_dir=None)):
        assert dict(each.plugins.by_key) == {}
        assert dict(each.plugins.by_certificate) == {keys.fingerprint("leaf"): "next"}
        (problem,) = each.problems
        assert "is refused" in problem
        assert problem.isprintable()
    (damaged,) = [each for each in store.list_plugins() if each.problem is not None]
    assert damaged.certificate_der is None


MALFORMED = (
    "CAST(x'ff' AS TEXT)",
    "x'00ff'",
    "'text'",
    "''",
    "-1",
    "9223372036854775807",
    "253402300799999999",
    "1e300",
)


@pytest.mark.parametrize("table", ["idps", "certificates", "rules", "plugins", "config_state"])
def test_no_malformed_value_stops_a_start_or_a_revocation(
    store: ConfigStore, engine: Engine, tmp_path: Path, table: str
) -> None:
    """Promise 23, promise 35: any one column of any one row; what is intact still changes."""
    path = tmp_path / "fas-evidence.db"
    imported(store, "idp_b", entity_id=names.OTHER_IDP)
    imported(store, "idp")
    store.set_rule(FasRule(name="default", mode=Mode.OBSERVE), now=NOW, actor=ACTOR)
    store.enroll_plugin(name="fas1", bearer_key_sha256="a" * 64, now=NOW, actor=ACTOR)
    acts = itertools.cycle(((Event.REVOKE, CertificateState.REVOKED), (Event.REINSTATE, CertificateState.TRUSTED)))
    connection = sqlite3.connect(path, isolation_level=None)
    row = f"FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})"
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
    for column, value in itertools.product(columns, MALFORMED):
        if table == "config_state" and column == "counter":
            continue  # the one value that says what is new
        ((number, before),) = connection.execute(f"SELECT rowid, {column} {row}").fetchall()
        holder = SnapshotHolder(engine, secrets_dir=None, stale_action="deny")
        try:
            connection.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = ?", (number,))
        except sqlite3.IntegrityError:
            continue  # the database itself refuses it
        event, state = next(acts)
        acted(engine, event, now=LATER)
        assert holder.refresh(), (column, value, holder.problems)
        for each in (holder, SnapshotHolder(engine, secrets_dir=None, stale_action="deny")):
            (certificate,) = each.current().trust.providers[names.IDP].certificates
            assert certificate.state is state, (column, value)
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (before, number))
    connection.close()


def test_an_empty_database_trusts_nobody(engine: Engine) -> None:
    """No IdP, no rule, no plug-in: everything is denied, and that is no error."""
    holder = SnapshotHolder(engine, secrets_dir=None)
    assert dict(holder.current().trust.providers) == {}
    assert dict(holder.plugins.by_key) == {}
    assert holder.problems == ()
