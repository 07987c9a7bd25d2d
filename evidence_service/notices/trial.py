"""The message that tries a channel out."""

from __future__ import annotations

from datetime import datetime

from evidence_service.notices.model import About, Audience, Message
from idp_certs.alarms import Severity, instant_text

SERVICE = "fas-evidence"


def trial_message(audience: Audience, now: datetime) -> Message:
    """A message that asks for nothing, sent at `now` (UTC)."""
    return Message(
        fact=f"test:{audience.value}:{now.isoformat()}",
        kind="test",
        about=About.SERVICE,
        subject=SERVICE,
        severity=Severity.NOTICE,
        audience=audience,
        title=f"{SERVICE}: a test, nothing is to be done",
        paragraphs=(
            f"This is a test message for {audience.value}. If you read it, it arrived.",
            "Messages like it tell when something waits for approval, when something expires, and what fails.",
        ),
        facts=(("Sent", instant_text(now)), ("Audience", audience.value)),
        urgent=True,
    )
