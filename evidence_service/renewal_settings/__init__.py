"""Which FAS servers are renewed and how people are told: one TOML file, read once at start and frozen.

The file is that of the setting `renewal_file`. Without it no certificate is renewed and nobody is mailed. Passwords,
client secrets and addresses of webhooks stand in files of their own, which only their owner may read; a name that is
not absolute is one inside `secrets_dir`. Other files (authorities, certificates) are named from the TOML file's place.
"""

from __future__ import annotations

from evidence_service.renewal_settings.checks import renewal_warnings
from evidence_service.renewal_settings.model import NO_RENEWAL, RenewalSettings
from evidence_service.renewal_settings.reading import load_renewal, renewal_of

__all__ = ("NO_RENEWAL", "RenewalSettings", "load_renewal", "renewal_of", "renewal_warnings")
