"""Reports of unknown signers: bounded, aggregated, and nothing that anybody waits for."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from evidence_service.access.plausible import UnknownSigner
from evidence_service.adapters.database import connect, reading, unknown_signers
from evidence_service.adapters.unknown_signers import KEPT, MAX_ROWS, UnknownSigners
from tests.adapters.given import LATER, NOW
from tests.corpus import names

PATIENCE = 60.0


def signer(number: int = 0, *, entity_id: str = names.IDP) -> UnknownSigner:
    """The owner of one of many keys."""
    return UnknownSigner(entity_id=entity_id, certificate_sha256=f"{number:064x}", subject=f"CN=key {number}")


@contextlib.contextmanager
def started(engine: Engine) -> Iterator[UnknownSigners]:
    """A writer that is stopped, with everything written, in the end."""
    it = UnknownSigners(engine)
    it.start()
    try:
        yield it
    finally:
        it.stop()


Rows = dict[tuple[str, str], tuple[str, datetime, datetime, int]]


def rows(engine: Engine) -> Rows:
    """The table: IdP and key to subject, first and last sighting, and count."""
    with reading(engine) as connection:
        return {
            (row.entity_id, row.certificate_sha256): (row.subject, row.first_seen, row.last_seen, row.denials)
            for row in connection.execute(select(unknown_signers))
        }


def test_reports_of_one_key_are_one_row(engine: Engine) -> None:
    """First and last sighting and how often, across transactions."""
    with started(engine) as it:
        for _ in range(3):
            it.report(signer(), NOW)
    with started(engine) as it:
        it.report(signer(), LATER)
        it.report(signer(), NOW - timedelta(hours=1))
    assert rows(engine) == {(names.IDP, f"{0:064x}"): ("CN=key 0", NOW, LATER, 5)}


def test_a_report_is_written_soon(engine: Engine) -> None:
    """Without stopping: the refresh loop must see it within a moment (promise 29)."""
    with started(engine) as it:
        it.report(signer(), NOW)
        until = time.monotonic() + PATIENCE
        while not rows(engine) and time.monotonic() < until:
            time.sleep(0.01)
        assert len(rows(engine)) == 1


def test_promise_27_random_keys_fill_neither_table_nor_memory(engine: Engine) -> None:
    """Promise 27: 10 000 keys from many threads at two IdPs; bounded rows, few transactions, reporting never waits."""
    with started(engine) as it:

        def report(part: int) -> None:
            for number in range(part, 10_000, 4):
                it.report(signer(number, entity_id=(names.IDP, names.OTHER_IDP)[number // 4 % 2]), NOW)

        began = time.monotonic()
        threads = [threading.Thread(target=report, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
    found = rows(engine)
    for entity_id in (names.IDP, names.OTHER_IDP):
        mine = {key: row for key, row in found.items() if key[0] == entity_id}
        assert len(mine) == MAX_ROWS
        assert mine[entity_id, ""][0] == ""
    assert sum(row[3] for row in found.values()) + it.dropped == 10_000
    assert it.writes <= 10 * took + 3, "one in a tenth of a second at most, so that a slow machine writes less often"


def test_a_key_beyond_the_bound_still_asks_for_a_refresh(engine: Engine) -> None:
    """The shared row tells when, and old rows make room."""
    with started(engine) as it:
        for number in range(MAX_ROWS + 4):
            it.report(signer(number), NOW)
    assert rows(engine)[names.IDP, ""] == ("", NOW, NOW, 5)
    soon = NOW + KEPT / 2
    with started(engine) as it:
        it.report(signer(100), soon)
    assert rows(engine)[names.IDP, ""] == ("", NOW, soon, 6)
    with started(engine) as it:
        it.report(signer(3), NOW + KEPT)
        it.report(signer(101), NOW + KEPT)
    found = rows(engine)
    assert len(found) == MAX_ROWS
    assert found[names.IDP, f"{3:064x}"][3] == 2
    assert found[names.IDP, f"{101:064x}"][0] == "CN=key 101"


def test_a_key_that_signs_for_many_is_named_whoever_filled_the_rows(engine: Engine) -> None:
    """Keys that were made up to hide the IdP's new one make room for it at once (promise 29)."""
    with started(engine) as it:
        for number in range(MAX_ROWS - 1):
            for _ in range(1 + (number != 7)):
                it.report(signer(number), NOW)
    with started(engine) as it:
        for _ in range(2):
            it.report(signer(100), NOW)
    found = rows(engine)
    assert found[names.IDP, f"{100:064x}"][3] == 2
    assert (names.IDP, f"{7:064x}") not in found
    assert len(found) == MAX_ROWS - 1


def test_a_signer_without_certificate_is_counted(engine: Engine) -> None:
    """It has the row that shows no certificate."""
    with started(engine) as it:
        it.report(UnknownSigner(entity_id=names.IDP, certificate_sha256="", subject=""), NOW)
    assert rows(engine) == {(names.IDP, ""): ("", NOW, NOW, 1)}


def test_a_store_that_does_not_take_it_is_said_once_and_tried_again(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken store costs a line, not the thread, and what was reported is written when it works again."""
    with connect(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE unknown_signers RENAME TO hidden")
        connection.commit()
    with caplog.at_level(logging.ERROR), started(engine) as it:
        it.report(signer(1), NOW)
        until = time.monotonic() + PATIENCE
        while not caplog.messages and time.monotonic() < until:
            time.sleep(0.01)
        it.report(signer(2), NOW)
        time.sleep(1.2)
        with connect(engine) as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO unknown_signers")
            connection.commit()
    assert len(rows(engine)) == 2
    (said,) = [message for message in caplog.messages if "unknown signers" in message]
    assert said.startswith("unknown signers are not written down: ")


def test_it_can_be_stopped_before_it_was_started(engine: Engine) -> None:
    """A start that failed elsewhere still ends."""
    it = UnknownSigners(engine)
    it.report(signer(), NOW)
    it.stop()
    assert rows(engine) == {}
