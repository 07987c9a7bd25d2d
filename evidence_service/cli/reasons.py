"""`reason`: what a code means and what to do about it."""

from __future__ import annotations

import difflib

from evidence_service.access.reasons import OK, AccessReason, reason_of
from evidence_service.cli import output
from evidence_service.cli.errors import ExitCode, NothingFound
from evidence_service.cli.output import Output
from idp_certs.reasons import Reason, TrustReason


def _all() -> list[Reason]:
    return sorted((*TrustReason, *AccessReason), key=lambda reason: reason.rank)


def _json(reason: Reason) -> dict[str, str]:
    return {"reason": str(reason), "meaning": reason.meaning, "advice": reason.advice}


def known_reason(code: str) -> Reason:
    """The reason of a code that a person typed. Raises NothingFound, with codes that look alike."""
    try:
        return reason_of(code)
    except KeyError:
        near = difflib.get_close_matches(code, [str(each) for each in _all()], n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else "`fas-evidence reason` lists all"
        raise NothingFound(f"there is no reason code {code!r}; {advice}") from None


def explain_reason(code: str, form: Output) -> int:
    """Print one code. Raises NothingFound."""
    if code == OK:
        output.line("ok: the reason of every allow.")
        return ExitCode.DONE
    reason = known_reason(code)
    if form is Output.JSON:
        output.emit_json(_json(reason))
    else:
        output.line(str(reason), "bold")
        output.line(reason.meaning)
        output.line(f"What to do: {reason.advice}")
    return ExitCode.DONE


def list_reasons(form: Output) -> int:
    """Print all codes, those that are shown first at the top."""
    if form is Output.JSON:
        output.emit_json([_json(reason) for reason in _all()])
    else:
        output.table(("reason", "meaning"), [(str(each), each.meaning) for each in _all()], nothing="")
    return ExitCode.DONE
