"""`reason`: what a code means and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from evidence_service.access.reasons import OK, AccessReason
from evidence_service.cli import output
from evidence_service.cli.errors import ExitCode, NothingFound
from evidence_service.cli.output import Output
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Reason, TrustReason


def _answers() -> list[Reason]:
    """What a decision may have for its reason."""
    return sorted((*TrustReason, *AccessReason), key=lambda reason: reason.rank)


def _all() -> list[Reason]:
    return [*_answers(), *sorted(RenewalReason, key=lambda reason: reason.rank)]


def _json(reason: Reason) -> dict[str, str]:
    return {"reason": str(reason), "meaning": reason.meaning, "advice": reason.advice}


def known_reason(code: str) -> Reason:
    """The reason of a decision, by a code that a person typed. Raises NothingFound, with codes that look alike."""
    return _find(code, _answers())


def _find(code: str, among: Sequence[Reason]) -> Reason:
    found = next((each for each in among if each == code), None)
    if found is not None:
        return found
    near = difflib.get_close_matches(code, [str(each) for each in among], n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "`fas-evidence reason` lists all"
    raise NothingFound(f"there is no reason code {code!r}; {advice}")


def explain_reason(code: str, form: Output) -> int:
    """Print one code. Raises NothingFound."""
    if code == OK:
        output.line("ok: the reason of every allow.")
        return ExitCode.DONE
    reason = _find(code, _all())
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
