"""The part of the demo in which FAS servers are renewed: ended in the middle, by hand, and how it is printed."""

from __future__ import annotations

import email
import json
import re
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.policy import default
from functools import partial
from pathlib import Path

import pytest

from evidence_service.demo.renewal import renewals
from evidence_service.demo.renewal_farm import FAS1, FAS2, ShownMail
from evidence_service.demo.steps import Step, new_cast
from tests.demo.played import Printed, demo, end, running, script

SCRIPT = """
from evidence_service.demo import renewal, steps, story
def tell(cast, now, new_id):
    (chapter, _) = renewal.renewals(cast, now, new_id)
    return (steps.Chapter(title="Servers", steps=chapter.steps[:{steps}]),)
story.run_demo(once={once}, tell=tell, pause_seconds=0.5)
"""


def first(steps: int, *, once: bool) -> list[str]:
    """A demo of the first steps about FAS servers alone."""
    return script(SCRIPT.format(steps=steps, once=once))


def until(come: Callable[[], bool]) -> None:
    """Look until it has come."""
    give_up = time.monotonic() + 120
    while not come():
        assert time.monotonic() < give_up
        time.sleep(0.2)


@pytest.mark.timeout(400)
def test_a_person_plays_the_ca_manager(tmp_path: Path) -> None:
    """While it runs, renewals are asked for, seen at the CA, issued and denied by the commands that it prints."""
    with demo(first(1, once=False), tmp_path, until="Running;") as (process, printed):
        renew, listing, issue, deny, notices = printed.commands[-5:]
        (made,) = tmp_path.iterdir()
        desk = made / "data" / "demo-ca.json"
        assert desk.stat().st_mode & 0o077 == 0

        def pending() -> list[dict[str, object]]:
            return list(json.loads(printed.asked(f"{listing} -o json")))

        # fas1 is due, so the worker has asked by itself.
        until(lambda: len(pending()) == 1)
        (asked,) = pending()
        assert (asked["requester"], asked["template"]) == (
            r"CORP\FAS1$",
            "Citrix_RegistrationAuthority_ManualAuthorization",
        )
        number = str(asked["number"])
        assert printed.asked(issue.replace("NUMBER", number)).startswith(f"Request {number} is issued; ")
        said = printed.asked(issue.replace("NUMBER", number), code=1)
        assert re.match(
            rf"error: No request {number} is pending at .*; `fas-evidence demo ca list` shows what is", said
        )
        until(lambda: condition(printed, FAS1) == "in force")

        printed.asked(renew.replace(FAS1, FAS2))
        until(lambda: len(pending()) == 1)
        number = str(pending()[0]["number"])
        assert printed.asked(deny.replace("NUMBER", number)) == f"Request {number} is denied: Nobody told me.\n"
        until(lambda: any("The CA says: Nobody told me" in each for each in mailed(made / "mail")))
        assert printed.asked(listing) == "No request is pending.\n"
        assert "renewal_report" in printed.asked(notices)

        out, err = end(process, signal.SIGTERM)
    assert (process.returncode, err) == (0, "")
    shown = re.findall(r"(?s)> To: ca-managers@corp\.example.*?\(request\s+>?\s*(\d+)\)", out)
    assert len(set(shown)) == 2
    assert "Mail to citrix@corp.example: " in out
    assert not desk.exists()
    assert running(made) == []


def mailed(directory: Path) -> list[str]:
    """The texts of all mails, each on one line."""
    mails = (email.message_from_bytes(each.read_bytes(), policy=default) for each in directory.glob("*.eml"))
    bodies = (each.get_body(("plain",)) for each in mails)
    return [" ".join(each.get_content().split()) for each in bodies if each is not None]


def condition(printed: Printed, name: str) -> str:
    """How a server stands."""
    return str(json.loads(printed.asked(f"fas-evidence authcert status {name} -o json"))["condition"])


def test_ended_in_a_renewal_it_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while a request waits ends service, worker and FAS servers, and removes the files."""
    with demo(first(8, once=True), tmp_path, until="act       requested") as (process, _):
        (made,) = tmp_path.iterdir()
        assert {"serve", "work"} <= {line.split()[-1] for line in running(made)}
        _, err = end(process, signal.SIGINT)
    assert err.endswith("KeyboardInterrupt\n")
    assert running(made) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_of_a_mail_is_marked() -> None:
    """The first paragraphs and what to do are shown; only a whole mail goes without the mark."""
    make = partial(ShownMail, kind="k", sender="s", to="t", copies="", subject="s")
    mail = make(paragraphs=("one", "two", "What to do:\n1. It", "facts"))
    assert mail.excerpt(1) == ("one", "What to do:\n1. It", "[...]")
    assert mail.excerpt(4) == mail.paragraphs


def test_titles_fit_a_narrow_terminal() -> None:
    """At 80 columns each title stays on the line of its answer, and every outcome fits its column."""
    now = datetime.now(UTC)
    for chapter in renewals(new_cast(now), now, lambda: "_1"):
        assert [each.title for each in chapter.steps if len(each.title) > 28] == []
        assert [each for each in chapter.steps if not isinstance(each, Step) and len(each.outcome) > 22] == []
