"""What the file of renewals says, once it is read and judged."""

from __future__ import annotations

from dataclasses import dataclass

from evidence_service.notices.model import Channels
from evidence_service.renewal.farm import Farm


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalSettings:
    """What `renewal_file` says. Without a file: no server, no channel."""

    farm: Farm
    channels: Channels


NO_RENEWAL = RenewalSettings(farm=Farm(), channels=Channels())
