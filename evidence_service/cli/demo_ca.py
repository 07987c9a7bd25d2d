"""`demo ca`: a person plays the CA manager of the demo that runs in another terminal."""

from __future__ import annotations

from datetime import datetime

from evidence_service.cli import output
from evidence_service.cli.errors import DependencyFailed, ExitCode, NothingFound
from evidence_service.cli.output import Output
from evidence_service.cli.session import Session
from evidence_service.demo.ca_desk import ask_desk
from evidence_service.demo.fas_ca import ApprovalRefused
from evidence_service.demo.service import DemoFailed


def list_pending(session: Session, form: Output) -> int:
    """Print the requests that wait for the CA manager."""
    found = _ask(session)
    if form is Output.JSON:
        output.emit_json(found)
        return ExitCode.DONE
    rows = [
        (each["number"], each["requester"], each["template"], datetime.fromisoformat(str(each["submitted"])))
        for each in found
    ]
    output.table(("request", "requester", "template", "submitted"), rows, nothing="No request is pending.")
    return ExitCode.DONE


def decide(session: Session, number: int, *, denied: str | None = None) -> int:
    """Issue a request, or deny it for a reason."""
    _ask(session, number, denied)
    done = "issued; FAS fetches the certificate by itself" if denied is None else f"denied: {denied}"
    output.line(f"Request {number} is {done}.")
    return ExitCode.DONE


def _ask(session: Session, number: int | None = None, denied: str | None = None) -> list[dict[str, object]]:
    try:
        return ask_desk(session.settings().data_dir, number, denied)
    except ApprovalRefused as refusal:
        raise NothingFound(f"{refusal}; `fas-evidence demo ca list` shows what is") from refusal
    except DemoFailed as problem:
        raise DependencyFailed(str(problem)) from problem
