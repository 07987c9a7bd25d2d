"""The file is read once and made into settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pydantic import ValidationError

from evidence_service.notices.model import Channels
from evidence_service.renewal.farm import Farm
from evidence_service.renewal_settings.channels import mail_of, webhook_of
from evidence_service.renewal_settings.checks import refuse_own_approval, refuse_repeated, refuse_same_machine
from evidence_service.renewal_settings.faults import MemberProblem, lines
from evidence_service.renewal_settings.files import Files
from evidence_service.renewal_settings.model import NO_RENEWAL, RenewalSettings
from evidence_service.renewal_settings.servers import revocation_list_of, server_of
from evidence_service.renewal_settings.tables import Document
from evidence_service.settings import Settings, SettingsError, toml_advice

_LISTED_AS_TABLE = re.compile(r"^\s*\[\s*(fas_servers|revocation_lists|webhooks)\s*\]", re.MULTILINE)


def renewal_of(settings: Settings) -> RenewalSettings:
    """What the settings' file of renewals says; a file that is named must exist. Raises SettingsError.

    Otherwise a typing error in the name would end all renewals, and nobody would be told.
    """
    must_exist = settings.renewal_file is not None
    return load_renewal(settings.effective_renewal_file, settings.effective_secrets_dir, must_exist=must_exist)


def load_renewal(path: Path, secrets_dir: Path, *, must_exist: bool = False) -> RenewalSettings:
    """What the file says; without a file, nothing, unless it `must_exist`.

    Raises SettingsError: a line with file, table and member for each fault that the file shows by itself, or one for
    the first that shows only beside other members or files.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except FileNotFoundError as error:
        if must_exist:
            raise SettingsError(f"renewal_file: {path} does not exist; correct the name, or leave it out") from error
        return NO_RENEWAL
    except OSError as error:
        raise SettingsError(
            f"renewal_file: {path} cannot be read: {error.strerror}; correct the name, or make the file readable"
        ) from error
    except (ValueError, RecursionError) as error:
        problem = f"renewal_file: {path} is not TOML: {' '.join(str(error).split())}"
        raise SettingsError(f"{problem}; {_single_bracket(text) or toml_advice(error)}") from error
    try:
        return _settings_of(Document(**content), Files(path.parent, secrets_dir))
    except ValidationError as error:
        raise SettingsError(*(f"{path}: {each}" for each in lines(error, content))) from error
    except MemberProblem as error:
        raise SettingsError(f"{path}: {error}") from error


def _single_bracket(text: str) -> str | None:
    """The parser blames a later line for it: a list that begins as a table."""
    found = _LISTED_AS_TABLE.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start(1)) + 1
    return f"line {line}: write [[{found[1]}]], in two brackets, above each entry"


def _settings_of(document: Document, files: Files) -> RenewalSettings:
    servers = tuple(server_of(each, document.renewal, files) for each in document.fas_servers)
    refuse_repeated("[[fas_servers]]", [each.name for each in servers])
    refuse_repeated("[[webhooks]]", [each.name for each in document.webhooks])
    refuse_same_machine(servers)
    lists = tuple(revocation_list_of(each, files) for each in document.revocation_lists)
    # A CA that renewed its key has a list for each key.
    refuse_repeated("[[revocation_lists]]", [f"{each.certificate_authority} {each.url}" for each in lists])
    mail = None if document.mail is None else mail_of(document.mail, files)
    if mail is not None:
        refuse_own_approval(mail, servers)
    return RenewalSettings(
        farm=Farm(servers=servers, revocation_lists=lists),
        channels=Channels(mail=mail, webhooks=tuple(webhook_of(each, files) for each in document.webhooks)),
    )
