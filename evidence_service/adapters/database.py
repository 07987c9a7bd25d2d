"""The tables, the engine, and the errors of the database.

Every instant is stored as whole microseconds since 1970 in UTC; `Instant` is the one place that converts.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    insert,
    text,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine import make_url

_log = logging.getLogger(__name__)

SCHEMA_REVISION = "0003"
"""The revision that this software reads and writes: the head of `migrations/versions`."""

BUSY_TIMEOUT = timedelta(seconds=5)
"""How long a statement waits for another process's lock, unless settings say otherwise."""

_MAX_ROWS = 64
_PAUSE_S = 0.01
_MAKING_S = 5.0
"""How long another process has from making the file to writing the first page, which it does at once."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class StoreUnavailable(Exception):  # noqa: N818 - a state of the world, named as the reason code is
    """The database cannot be used; `str()` is one line that names it and says what to do."""


class SchemaMismatch(StoreUnavailable):
    """The database has another schema than this software."""


class StoreReplaced(StoreUnavailable):
    """The file that a connection writes to is no longer the database: another took its place, or none."""


def to_microseconds(instant: datetime) -> int:
    """Microseconds since 1970 UTC. Raises ValueError for an instant without a zone."""
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone cannot be stored")
    return (instant - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The aware UTC instant of a stored number."""
    return _EPOCH + timedelta(microseconds=value)


class Instant(TypeDecorator[datetime]):
    """An aware instant, stored as UTC microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the number."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the number. What is no instant reads as 1970: over for any deadline, and found by the row's digest."""
        if value is None:
            return None
        try:
            return from_microseconds(value)
        except (TypeError, OverflowError):
            return _EPOCH


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives a row id only to a column of exactly the type INTEGER.
_Sequence = BigInteger().with_variant(Integer(), "sqlite")

config_state = Table(
    "config_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("trust_changed_at", Instant, nullable=False),
)
"""One row. `counter` rises with every administrative act, `trust_changed_at` with those that decisions depend on."""

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("high_water", Instant),
)
"""One row: the latest instant at which anything was decided (promise 10)."""

documents = Table(
    "documents",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("stored_at", Instant, nullable=False),
)
"""Metadata documents as imported."""

idps = Table(
    "idps",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("document_sha256", Text, ForeignKey("documents.sha256"), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("policy", Text, nullable=False),
    Column("valid_until", Instant),
    Column("sso_urls", Text, nullable=False),
    Column("imported_at", Instant, nullable=False),
    Column("imported_by", Text, nullable=False),
    Column("removed_at", Instant),
    Column("refreshed_at", Instant),
    Column("digest", Text, nullable=False),
)
"""Identity providers. A removed one stays as long as a revoked certificate of it must be remembered.

`refreshed_at`: when its source last confirmed what we hold.
"""

certificates = Table(
    "certificates",
    metadata,
    Column("entity_id", Text, ForeignKey("idps.entity_id"), primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("der", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("provenance", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("absent_since", Instant),
    Column("absences", Integer, nullable=False, server_default="0"),
)
"""Signing certificates. `absent_since` and `absences`: since when, and in how many documents running, it is missing."""

certificate_history = Table(
    "certificate_history",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("entity_id", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("event", Text, nullable=False),
    Column("before", Text),
    Column("after", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    Index(None, "entity_id", "sha256"),
)
"""Every change of a certificate's state, with what vouched for it (promise 41); triggers keep it append-only."""

sources = Table(
    "sources",
    metadata,
    Column("entity_id", Text, ForeignKey("idps.entity_id"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("ca_pem", Text),
    Column("pin_sha256", Text),
    Column("metadata_certificate", LargeBinary),
    Column("added_at", Instant, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
"""Where the metadata of an IdP is fetched from, as an administrator set it."""

source_states = Table(
    "source_states",
    metadata,
    Column("entity_id", Text, ForeignKey("sources.entity_id", ondelete="CASCADE"), primary_key=True),
    Column("next_attempt_at", Instant, nullable=False),
    Column("jitter", Float, nullable=False),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("attempted_at", Instant),
    Column("succeeded_at", Instant),
    Column("changed_at", Instant),
    Column("hastened_at", Instant),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("document_sha256", Text),
    Column("created", Instant),
    Column("valid_until", Instant),
    Column("cache_duration_us", BigInteger),
    Column("served_at", Instant),
    Column("problem", Text),
    Column("problem_text", Text),
    Column("problem_since", Instant),
    Column("claimed_by", Text),
    Column("claimed_until", Instant),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Index(None, "next_attempt_at"),
)
"""What the refresh loop remembers of each source; a write that names an old `epoch` is refused.

`etag` to `cache_duration_us` belong to the newest accepted document, `served_at` is the Date of its answer.
`hastened_at`: the latest attempt that was made early. `problem` is the reason code of the latest failure.
"""

rollovers = Table(
    "rollovers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("entity_id", Text, ForeignKey("idps.entity_id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("document_sha256", Text, nullable=False),
    Column("certificates", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("expected", Text, nullable=False),
    Column("presented", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    Column("first_seen", Instant, nullable=False),
    Column("last_seen", Instant, nullable=False),
    Column("sightings", Integer, nullable=False),
    Column("decided_at", Instant),
    Column("decided_by", Text),
    Column("note", Text),
    Column("digest", Text, nullable=False),
    Index(None, "entity_id", "state"),
)
"""Certificates that wait, or waited, for a person. `state`: held, approved, rejected, superseded."""

unknown_signers = Table(
    "unknown_signers",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("certificate_sha256", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("first_seen", Instant, nullable=False),
    Column("last_seen", Instant, nullable=False),
    Column("denials", BigInteger, nullable=False),
)
"""Keys that signed plausible evidence and are not known; `certificate_sha256` is what the evidence shows, unproven.

A `last_seen` after the latest attempt asks the refresh loop to look earlier.
"""

usage = Table(
    "usage",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("certificate_sha256", Text, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("sign_ins", BigInteger, nullable=False),
    Column("launches", BigInteger, nullable=False),
    Column("late_sign_ins", BigInteger, nullable=False),
    Column("first_sign_in", Instant),
    Column("last_sign_in", Instant),
)
"""How often a certificate's evidence was allowed on a day (UTC, counted from 1970-01-01).

`sign_ins` counts evidence allowed for the first time, `launches` every allow; `late_sign_ins` counts those first seen
after the certificate was withdrawn (promise 18).
"""

alarms = Table(
    "alarms",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("raised_at", Instant, nullable=False),
    Column("cleared_at", Instant),
    Column("about", Text, nullable=False, server_default="idp"),
    Column("told", BigInteger),
    Index(None, "cleared_at"),
)
"""Alarms; one that is open has no `cleared_at`.

`about` tells what `entity_id` names: an `idp`, a `fas_server`, a `plugin` or this `service`. `told` is the message (its
`outbox.seq`) by which people know of it, until they know that it is over too.
"""

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text),
    Column("held_until", Instant),
)
"""Who alone may act, until when. `epoch` rises with each new holder; a write that names an old one is refused."""

fas_servers = Table(
    "fas_servers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("jitter", Float, nullable=False),
    Column("next_tick_at", Instant, nullable=False),
    Column("observation", Text),
    Column("observed_at", Instant),
    Column("step", Text),
    Column("step_since", Instant),
    Column("problem", Text),
    Column("problem_text", Text),
    Column("problem_since", Instant),
    Column("misses", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("not_before", Instant),
    Column("paused_until", Instant),
    Column("paused_by", Text),
    Column("paused_note", Text),
    Column("first_usable", Text, nullable=False, server_default="{}"),
    Column("ahead_since", Instant),
)
"""What is known of each FAS server whose authorization certificate is kept in force.

`observation` and `step` are what it last reported and what followed; `problem` is the reason code of why it did not
answer since `problem_since`, `misses` how often running. `failures` counts acts that failed running, `not_before` ends
the back-off after them. `first_usable` is when each certificate was first seen usable, as microseconds by id.
`ahead_since` is since when what is remembered has been ahead of the clock.
"""

renewal_acts = Table(
    "renewal_acts",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("server", Text, ForeignKey("fas_servers.name"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("result", Text),
    Column("result_at", Instant),
    Column("certificate_id", Text),
    Column("finding", Text),
    Index(None, "server", "seq"),
)
"""Every act upon a FAS server: its intent before it was asked for, then what came of it (promise 44)."""

renewal_asks = Table(
    "renewal_asks",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("server", Text, ForeignKey("fas_servers.name"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("payload", LargeBinary),
    Column("settled_at", Instant),
    Column("outcome", Text),
    Index(None, "server", "settled_at"),
)
"""What people asked of a FAS server's renewal; one that is open has no `settled_at`."""

outbox = Table(
    "outbox",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("fact", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)
"""What people are told. `fact` is what it says, so that nothing is told twice; `id` stays however often it is sent."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("message_seq", BigInteger, ForeignKey("outbox.seq"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", Instant, nullable=False),
    Column("jitter", Float, nullable=False),
    Column("delivered_at", Instant),
    Column("problem", Text),
    Column("sent_with", BigInteger),
    Index(None, "state", "next_attempt_at"),
)
"""How far each message is on each channel: queued, delivered, abandoned, or skipped (promise 59).

`sent_with` is the message by whose id it goes out since it was first tried: its own, or that of one combined with it.
"""

rules = Table(
    "rules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("max_age_us", BigInteger),
    Column("entity_ids", Text),
    Column("digest", Text, nullable=False),
)

plugins = Table(
    "plugins",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("certificate", LargeBinary),
    Column("enrolled_at", Instant, nullable=False),
    Column("enrolled_by", Text, nullable=False),
    Column("revoked_at", Instant),
    Column("digest", Text, nullable=False),
)
"""Credentials of plug-ins in the order of their enrollment. One name has two while they are rotated."""

journal = Table(
    "journal",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
"""Administrative acts; triggers refuse to change or delete a row."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("version", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("stored_at", Instant, nullable=False),
)
"""Every snapshot by which anything was decided; `version` is the SHA-256 of `document`."""

evidence = Table(
    "evidence",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("stored_at", Instant, nullable=False),
)

sightings = Table(
    "sightings",
    metadata,
    Column("sighting_key", Text, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("assertion_id", Text, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("upn", Text, nullable=False),
    Column("first_seen", Instant, nullable=False),
)
"""Evidence that was allowed, when first. `sighting_key` is a digest of issuer and assertion ID."""

decisions = Table(
    "decisions",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("decision_id", Text, nullable=False, unique=True),
    Column("now", Instant, nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("upn", Text, nullable=False),
    Column("issuer", Text),
    Column("mode", Text, nullable=False),
    Column("plugin", Text),
    Column("snapshot_version", Text, ForeignKey("snapshots.version"), nullable=False),
    Column("evidence_sha256", Text, ForeignKey("evidence.sha256")),
    Column("request", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("seen", Text),
    Column("took_us", BigInteger, nullable=False),
    Column("judged", Boolean, nullable=False),
    Column("answered", Text, nullable=False),
    Index(None, "now"),
    Index(None, "upn", "seq"),
    Index(None, "reason", "seq"),
    Index(None, "issuer", "seq"),
)
"""Decisions in the order in which they were made. `upn` is folded and escaped, for searching only."""


class Inserter:
    """Inserts many rows with few steps of the database.

    The driver gives Python's lock away at every step and has to win it back from a busy event loop, so the ordinary
    one step per row would cost a decision milliseconds. Values are bound as they are: instants as microseconds.
    """

    def __init__(self, engine: Engine, table: Table, columns: Sequence[str], *, ignore_known: bool = False) -> None:
        """Prepare; `ignore_known` leaves rows alone that are there already."""
        statement = upsert(table).on_conflict_do_nothing() if ignore_known else insert(table)
        single = str(statement.compile(dialect=engine.dialect, column_keys=list(columns)))
        places = f"({', '.join('?' * len(columns))})"
        self._head, self._tail = single.split(places)
        self._places = places
        self._values = itemgetter(*(column.name for column in table.columns if column.name in columns))

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert `rows`, in their order."""
        start = 0
        while start < len(rows):
            # Powers of two: few different statements, which the driver keeps prepared.
            count = min(_MAX_ROWS, 1 << (len(rows) - start).bit_length() - 1)
            some = rows[start : start + count]
            sql = self._head + ", ".join([self._places] * count) + self._tail
            connection.exec_driver_sql(sql, tuple(itertools.chain.from_iterable(map(self._values, some))))
            start += count


def open_database(url: str, *, create: bool = True, busy_timeout: timedelta = BUSY_TIMEOUT) -> Engine:
    """Open the database at `url`, which must have exactly our schema.

    A file that does not exist is created (mode 0600) and migrated if `create`. Raises SchemaMismatch for an older,
    newer or foreign schema, and StoreUnavailable where the file cannot be used: one of 0 bytes has lost its content.
    """
    path = _path(url)
    size = _size(path)
    if size is None and not create:
        raise StoreUnavailable(f"there is no database at {path}; create it with `fas-evidence db upgrade`")
    if size == 0 and not (create and _is_begun(path)):
        raise StoreUnavailable(_empty(path, " (0 bytes)"))
    engine = _engine(url, busy_timeout, create=create)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(engine.dispose)
        with reading(engine) as connection:
            revision = _revision(connection, path)
        if revision is None and create:
            _migrate(engine)
            _log.warning("a new, empty database was made at %s", path)
            engine.dispose()  # connections from before the first write do not know the log
        elif revision != SCHEMA_REVISION:
            raise _mismatch(path, revision)
        on_failure.pop_all()

    @event.listens_for(engine, "connect")
    def verify(driver: _File, _record: object) -> None:
        # The file may have been replaced since it was opened, by one of another schema.
        revision = _driver_revision(driver)
        if revision != SCHEMA_REVISION:
            driver.close()
            raise _mismatch(path, revision)

    return engine


def upgrade(url: str, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> str:
    """Bring the database at `url` to our schema, one transaction; a missing or empty file begins anew. The revision.

    Raises SchemaMismatch for a newer or foreign schema, and StoreUnavailable where the file cannot be used.
    """
    engine = _engine(url, busy_timeout, create=True)
    try:
        _migrate(engine)
    finally:
        engine.dispose()
    return SCHEMA_REVISION


def connect(engine: Engine) -> Connection:
    """A connection to the file that is the database now. Raises what the driver raises, and StoreUnavailable."""
    connection = engine.connect()
    if _file(connection).is_replaced():
        connection.close()
        # All of them: an idle one would share what SQLite keeps in memory about the log with new ones.
        engine.dispose()
        connection = engine.connect()
    return connection


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A consistent read. Raises StoreUnavailable."""
    with _translated(engine), connect(engine) as connection:
        yield connection


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction that holds the write lock from its start. Raises StoreUnavailable."""
    with _translated(engine), connect(engine) as connection:
        connection.execution_options(write=True)
        with connection.begin():
            yield connection
        check_file(connection)


def file_of(connection: Connection) -> object:
    """What tells the file of this connection from another at the same path."""
    file = _file(connection)
    return file.files[str(file.path)]


def check_file(connection: Connection) -> None:
    """Whether what this connection writes is in the database: its file and log still have their names.

    Raises StoreReplaced. A restored backup takes the file's name, and writing to the nameless one still succeeds.
    """
    file = _file(connection)
    if file.is_replaced():
        raise StoreReplaced(f"the database {file.path} was replaced or removed in use; if it is gone, restore it")


def database_problem(engine: Engine, error: BaseException) -> str:
    """One line for an error of the driver: which database, what is wrong, what to do."""
    if isinstance(error, StoreUnavailable):
        return str(error)
    where = f"the database {engine.url.database}"
    original = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    advice = {
        sqlite3.SQLITE_BUSY: "is locked by another process; wait, or find the process that holds it",
        sqlite3.SQLITE_LOCKED: "is locked by another connection; try again",
        sqlite3.SQLITE_NOTADB: "is not an SQLite database; name another file in `database_url`",
        sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a backup",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that it and its directory exist, and their permissions",
        sqlite3.SQLITE_PERM: "may not be accessed; check its permissions",
        sqlite3.SQLITE_READONLY: "is read-only; check its permissions and those of its directory",
        sqlite3.SQLITE_FULL: "cannot grow; free space on its disk",
        sqlite3.SQLITE_IOERR: "cannot be read or written; check its disk: space, quota, errors",
    }.get(code & 0xFF if isinstance(code, int) else -1, f"cannot be used: {_one_line(original)}")
    return f"{where} {advice}"


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except sa_exc.IntegrityError:
        raise
    except (sa_exc.DBAPIError, sa_exc.TimeoutError, sqlite3.Error) as error:
        raise StoreUnavailable(database_problem(engine, error)) from error


def _path(url: str) -> Path:
    try:
        parsed = make_url(url)
    except sa_exc.ArgumentError as error:
        raise StoreUnavailable("database_url is not a URL; write sqlite:////path/to/fas-evidence.db") from error
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StoreUnavailable(f"database_url: {parsed.drivername} is not supported; write sqlite:////path/to/file.db")
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise StoreUnavailable("database_url must name a file: sqlite:////path/to/fas-evidence.db")
    path = Path(parsed.database)
    if os.path.isdir(path):  # noqa: PTH112 - of what may not be looked at it does not raise; the next step says why
        raise StoreUnavailable(f"the database {path} is a directory; name a file in `database_url`")
    return path


def _size(path: Path) -> int | None:
    """The bytes of the file; None where there is none, or something else. Raises StoreUnavailable."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreachable(path, "cannot be reached", error) from error
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _is_begun(path: Path) -> bool:
    """Whether an empty file is one that another process is making now; waits for its first page."""
    until = time.monotonic() + _MAKING_S
    while time.monotonic() < until:
        if _size(path) != 0:
            return True
        time.sleep(_PAUSE_S)
    return False


def _empty(path: Path, how: str = "") -> str:
    return f"the database {path} is empty{how}: restore a copy of it, or begin anew with `fas-evidence db upgrade`"


def _unreachable(path: Path, what: str, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"the database {path} {what}: {error.strerror}; let this account enter its directory and write there, "
        "or name another in `data_dir` or `database_url`"
    )


class _File(sqlite3.Connection):
    """A connection that knows which files it has open. It never creates the database."""

    path: Path
    files: dict[str, tuple[int, int] | None]

    @classmethod
    def open(cls, path: Path, busy_timeout: timedelta) -> _File:
        """Connect, ready to use."""
        before = _identity(str(path))
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, check_same_thread=False, factory=cls)
        try:
            connection.prepare(path, before, busy_timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def is_replaced(self) -> bool:
        """Whether another file, or none, has the name of one that is open here."""
        return any(_identity(name) != known for name, known in self.files.items())

    def prepare(self, path: Path, before: tuple[int, int] | None, busy_timeout: timedelta) -> None:
        """Set what each connection needs. `before` is what the path named before it was opened."""
        # The driver must not begin transactions by itself: `begin` below does, so that DDL is transactional too.
        self.isolation_level = None
        # Text that is no UTF-8 is a damaged row, which is found by its digest, and not a failing read of all rows.
        self.text_factory = _as_text
        for pragma in (
            f"busy_timeout = {busy_timeout // timedelta(milliseconds=1)}",
            "synchronous = FULL",
            "foreign_keys = ON",
            "trusted_schema = OFF",
        ):
            self.execute(f"PRAGMA {pragma}").close()
        self._write_ahead(busy_timeout)
        self.path = path
        # While a connection is open, SQLite neither removes nor replaces its log.
        log = f"{path.resolve()}-wal"
        self.files = {str(path): _identity(str(path))}
        if (found := _identity(log)) is not None:  # there is none before the first write ever
            self.files[log] = found
        if self.files[str(path)] != before:
            raise StoreReplaced(f"the database {path} was replaced while it was opened; it is tried again")

    def _write_ahead(self, busy_timeout: timedelta) -> None:
        """Switch to the write-ahead log, which is done once in the life of a file.

        Where another does the same at that moment SQLite answers SQLITE_BUSY at once, whatever the time-out: each
        has the file open for reading, and waiting for the other could last for ever.
        """
        until = time.monotonic() + busy_timeout.total_seconds()
        while True:
            try:
                self.execute("PRAGMA journal_mode = WAL").close()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                    raise
            else:
                return
            time.sleep(_PAUSE_S)


def _file(connection: Connection) -> _File:
    return cast(_File, connection.connection.dbapi_connection)


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - asked twice for every commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _as_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _engine(url: str, busy_timeout: timedelta, *, create: bool) -> Engine:
    path = _path(url)
    if create:
        _create_private(path)
    file = path.absolute()
    engine = create_engine(url, hide_parameters=True, creator=lambda: _File.open(file, busy_timeout))

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        _file(connection).execute("BEGIN IMMEDIATE" if write else "BEGIN").close()

    return engine


def _create_private(path: Path) -> None:
    """Create an empty file that only its owner may read: it will hold personal data."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise _unreachable(path, "cannot be created", error) from error


def _revision(connection: Connection, path: Path) -> str | None:
    """The revision of the database; None for an empty one. Raises SchemaMismatch for a foreign one."""
    tables = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")))
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise SchemaMismatch(f"the database {path} belongs to another program; name another file in `database_url`")
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def _driver_revision(driver: sqlite3.Connection) -> str | None:
    try:
        row = driver.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return None  # no such table
    return None if row is None else str(row[0])


def _mismatch(path: Path, revision: str | None) -> SchemaMismatch:
    if revision is None:
        return SchemaMismatch(_empty(path))
    if revision in _known_revisions():
        return SchemaMismatch(f"the database {path} has an older schema; run `fas-evidence db upgrade`")
    return SchemaMismatch(
        f"the database {path} has schema {revision}, newer than this software knows ({SCHEMA_REVISION}); "
        "upgrade the software"
    )


# Alembic is imported only where it is needed: a start with the right schema does without it.
def _alembic_config() -> Any:  # noqa: ANN401 - its type would import Alembic
    from alembic.config import Config  # noqa: PLC0415 - slow to import, and rarely needed

    config = Config()
    config.set_main_option("script_location", "evidence_service.adapters:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _known_revisions() -> frozenset[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as above

    return frozenset(script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions())


def _migrate(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415 - as above

    path = Path(str(engine.url.database))
    config = _alembic_config()
    # The write lock is taken before the revision is read: of two processes that start at once, one migrates.
    with writing(engine) as connection:
        revision = _revision(connection, path)
        if revision == SCHEMA_REVISION:
            return
        if revision is not None and revision not in _known_revisions():
            raise _mismatch(path, revision)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
