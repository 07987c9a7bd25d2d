from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, insert, select, text

from evidence_service.adapters import database
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import (
    SCHEMA_REVISION,
    SchemaMismatch,
    StoreUnavailable,
    certificates,
    idps,
    open_database,
    reading,
    to_microseconds,
    upgrade,
    writing,
)
from tests.adapters.given import imported, url_of

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


def one_line(caught: pytest.ExceptionInfo[StoreUnavailable], *words: str) -> None:
    """The message is one line that holds these words."""
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.platform
@posix
def test_a_fresh_database_is_private(tmp_path: Path) -> None:
    """Only the owner may read the files, the write-ahead log included."""
    path = tmp_path / "new" / "fas-evidence.db"
    engine = open_database(url_of(path))
    with writing(engine) as connection:
        connection.execute(text("UPDATE config_state SET counter = counter"))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    engine.dispose()
    assert set(modes) >= {"fas-evidence.db", "fas-evidence.db-wal"}
    assert set(modes.values()) == {0o600}


def test_every_connection_is_durable_and_checks_keys(engine: Engine) -> None:
    """WAL, synchronous FULL (2) and foreign keys are on."""
    with reading(engine) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_the_migrations_make_the_tables_that_the_code_uses(engine: Engine) -> None:
    """A difference between migrations and tables is found here, not in production."""
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), database.metadata) == []
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == SCHEMA_REVISION
    assert SCHEMA_REVISION in database._known_revisions()


def test_upgrade_is_idempotent_and_keeps_what_is_stored(tmp_path: Path) -> None:
    """A second run changes nothing."""
    url = url_of(tmp_path / "a.db")
    assert upgrade(url) == SCHEMA_REVISION
    engine = open_database(url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE config_state SET counter = 7"))
    assert upgrade(url) == SCHEMA_REVISION
    with reading(engine) as connection:
        assert connection.scalar(select(database.config_state.c.counter)) == 7
    engine.dispose()


def test_what_an_older_version_sealed_is_intact_after_the_upgrade(tmp_path: Path) -> None:
    """The seal of an IdP from revision 0001 holds: what came later counts in it only once it is set."""
    url = url_of(tmp_path / "a.db")
    engine = open_database(url)
    imported(ConfigStore(engine), "idp")
    with reading(engine) as connection:
        row = connection.execute(select(idps)).one()
        certificate = connection.execute(select(certificates)).one()
    content = [
        [row.entity_id, row.document_sha256, row.enabled, row.policy, row.sso_urls, row.imported_by],
        [None, to_microseconds(row.imported_at), None],
        [
            [
                certificate.sha256,
                certificate.der.hex(),
                certificate.state,
                to_microseconds(certificate.since),
                certificate.provenance,
            ]
        ],
    ]
    sealed = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert row.digest == hashlib.sha256(sealed.encode()).hexdigest()
    engine.dispose()


def test_a_missing_database_is_not_made_up(tmp_path: Path) -> None:
    """Without `create` a wrong path is an error that names the command, and leaves nothing behind."""
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url_of(tmp_path / "none.db"), create=False)
    one_line(caught, "none.db", "fas-evidence db upgrade")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """Software that is too old says so, for opening and for upgrading."""
    url = url_of(tmp_path / "a.db")
    upgrade(url)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for act in (open_database, upgrade):
        with pytest.raises(SchemaMismatch) as caught:
            act(url)
        one_line(caught, "9999", "upgrade the software")


def test_an_older_schema_is_refused_until_it_is_upgraded(tmp_path: Path) -> None:
    """A database in which no revision was completed names the command that does it."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    connection.close()
    with pytest.raises(SchemaMismatch) as caught:
        open_database(url_of(path), create=False)
    one_line(caught, "fas-evidence db upgrade")
    assert upgrade(url_of(path)) == SCHEMA_REVISION
    open_database(url_of(path), create=False).dispose()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """Foreign tables are not migrated over."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    for act in (open_database, upgrade):
        with pytest.raises(SchemaMismatch) as caught:
            act(url_of(path))
        one_line(caught, "another program")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """Text instead of a database."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header\n" * 40)
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url_of(path))
    one_line(caught, "notes.txt", "not an SQLite database")


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    """Pages overwritten behind an intact header."""
    path = tmp_path / "a.db"
    upgrade(url_of(path))
    content = bytearray(path.read_bytes())
    content[100:4096] = os.urandom(3996)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url_of(path))
    one_line(caught, "a.db", "damaged")


def test_a_locked_database_is_named(tmp_path: Path) -> None:
    """Another process holds the write lock longer than we wait."""
    path = tmp_path / "a.db"
    engine = open_database(url_of(path), busy_timeout=timedelta(milliseconds=50))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as caught, writing(engine):
        pass
    holder.close()
    engine.dispose()
    one_line(caught, "locked")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not a URL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("postgresql+asyncpg://db/fas", "not supported"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, words: str) -> None:
    """The message names the setting."""
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url)
    one_line(caught, "database_url", words)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory is no database."""
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url_of(tmp_path))
    one_line(caught, "is a directory")


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """The directory cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url_of(tmp_path / "file" / "a.db"))
    one_line(caught, "cannot be created")


def test_instants_are_stored_exactly_and_in_utc(engine: Engine) -> None:
    """Microseconds survive, another zone becomes UTC, an instant without a zone is refused."""
    at = datetime(2026, 3, 29, 2, 30, 0, 123457, tzinfo=timezone(timedelta(hours=2)))
    with writing(engine) as connection:
        connection.execute(insert(database.evidence).values(sha256="a", content=b"", stored_at=at))
        stored = connection.scalar(select(database.evidence.c.stored_at))
        raw = connection.scalar(text("SELECT stored_at FROM evidence"))
    assert stored == at
    assert stored is not None
    assert stored.tzinfo is UTC
    assert raw == 1774744200123457
    with pytest.raises(ValueError, match="time zone"):
        database.to_microseconds(at.replace(tzinfo=None))


def test_the_journal_of_acts_cannot_be_changed(engine: Engine) -> None:
    """The database itself refuses to change or delete an act."""
    with writing(engine) as connection:
        connection.execute(
            insert(database.journal).values(
                at=datetime(2026, 1, 1, tzinfo=UTC), actor="a", act="b", subject="c", detail="{}"
            )
        )
    for statement in ("UPDATE journal SET actor = 'x'", "DELETE FROM journal"):
        with pytest.raises(Exception, match="append-only"), writing(engine) as connection:
            connection.execute(text(statement))


def test_two_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    """The second waits for the first and finds the work done."""
    url = url_of(tmp_path / "a.db")
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    def start() -> None:
        barrier.wait()
        try:
            open_database(url, busy_timeout=timedelta(seconds=60)).dispose()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_opening_waits_for_another_that_makes_the_database(tmp_path: Path) -> None:
    """A lock that another holds on the new file is waited for, and named when it lasts longer than that."""
    path = tmp_path / "a.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="is locked by another process"):
        upgrade(url_of(path), busy_timeout=timedelta(milliseconds=50))
    leaves = threading.Timer(0.2, other.execute, ["COMMIT"])
    leaves.start()
    upgrade(url_of(path), busy_timeout=timedelta(seconds=30))
    leaves.join()
    other.close()


def test_a_file_that_lost_its_content_is_not_made_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file is no new database: whoever wants one says so."""
    monkeypatch.setattr(database, "_MAKING_S", 0.05)
    path = tmp_path / "a.db"
    path.touch()
    for create in (True, False):
        with pytest.raises(StoreUnavailable) as caught:
            open_database(url_of(path), create=create)
        one_line(caught, "a.db is empty (0 bytes): restore a copy of it, or begin anew with `fas-evidence db upgrade`")
        assert path.stat().st_size == 0
    assert upgrade(url_of(path)) == SCHEMA_REVISION
    open_database(url_of(path), create=False).dispose()


def test_an_empty_file_that_another_is_making_is_waited_for(tmp_path: Path) -> None:
    """Of processes that start at once, one makes the file and the others find it before its first page."""
    path = tmp_path / "a.db"
    path.touch()
    other = threading.Timer(0.2, upgrade, [url_of(path)])
    other.start()
    open_database(url_of(path), busy_timeout=timedelta(seconds=60)).dispose()
    other.join()


def test_a_path_of_which_nothing_can_be_known_is_told_with_the_remedy(tmp_path: Path) -> None:
    """As in a directory that may not be entered: the database is there perhaps, so nothing is said of its absence."""
    for act in (open_database, upgrade):
        with pytest.raises(StoreUnavailable) as caught:
            act(url_of(tmp_path / ("a" * 300)))
        one_line(caught, "cannot be ", "File name too long; let this account enter its directory", "`data_dir`")


def test_a_migration_that_was_killed_is_finished_by_the_next_run(tmp_path: Path) -> None:
    """Promise 76: killed after a random statement, the file holds all of a revision or nothing of it."""
    path = tmp_path / "a.db"
    script = (
        "import os, sys\n"
        "from sqlalchemy import Engine, event\n"
        "from evidence_service.adapters.database import upgrade\n"
        "left = [int(sys.argv[2])]\n"
        "@event.listens_for(Engine, 'after_cursor_execute')\n"
        "def count(*args):\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0:\n"
        "        os.kill(os.getpid(), 9)\n"
        "upgrade(sys.argv[1])\n"
    )
    for statements in (3, 9, 15, 21, 25):
        killed = subprocess.run([sys.executable, "-c", script, url_of(path), str(statements)], check=False)
        assert killed.returncode == -9, statements
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        connection.close()
    open_database(url_of(path)).dispose()
