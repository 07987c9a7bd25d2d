"""Mail by SMTP, or as a file in a pickup directory (`domain/fas.md` G)."""

from __future__ import annotations

import contextlib
import os
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

from evidence_service.adapters.entra import EntraTokens
from evidence_service.adapters.https_client import HttpsClient, tls_context, why
from evidence_service.adapters.rendering import as_mail
from evidence_service.adapters.sending import NotDelivered, Outgoing
from evidence_service.notices.model import Mail, Message, Pickup, Smtp, SmtpSecurity

NAME = "mail"
SMTP_SCOPE = "https://outlook.office365.com/.default"


class SmtpChannel:
    """Mail to a mail server, one connection a message."""

    name = NAME

    def __init__(self, mail: Mail, smtp: Smtp) -> None:
        """Send as `mail` says, by `smtp`."""
        self._mail, self._smtp = mail, smtp
        self._tokens: EntraTokens | None = None
        if smtp.xoauth2 is not None:
            # Entra ID is asked by the system's authorities: `ca_file` is that of the mail server.
            client = HttpsClient(timeout_seconds=smtp.timeout_seconds)
            self._tokens = EntraTokens(smtp.xoauth2, SMTP_SCOPE, client)

    def takes(self, message: Message) -> bool:  # noqa: ARG002 - all are mailed
        """All messages are mailed."""
        return True

    def send(self, outgoing: Outgoing) -> None:
        """Send it now. Raises NotDelivered.

        A server that refuses the message for good (5xx) refuses it permanently. One that cannot be reached or does not
        take the account is tried again: both are mended without the message. A message that some recipients got is
        not sent again, which would reach them again and again.
        """
        made = as_mail(outgoing, self._mail)
        with _told(f"{self._smtp.host}:{self._smtp.port}"), self._connection() as connection:
            refused = connection.send_message(made)
        if refused:
            names = "; ".join(f"{address}: {_answer(*answer)}" for address, answer in refused.items())
            raise NotDelivered(f"others got it, and the mail server refused {names}", permanent=True)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        smtp = self._smtp
        token = None if self._tokens is None else self._tokens.token()
        with self._connected() as connection:
            if smtp.security is SmtpSecurity.STARTTLS:
                connection.starttls(context=tls_context(smtp.ca_file))
            if token is not None:
                _xoauth2(connection, smtp.username or "", token)
            elif smtp.username is not None:
                connection.login(smtp.username, smtp.password or "")
            yield connection

    def _connected(self) -> smtplib.SMTP:
        smtp = self._smtp
        if smtp.security is SmtpSecurity.TLS:
            context = tls_context(smtp.ca_file)
            return smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=smtp.timeout_seconds, context=context)
        return smtplib.SMTP(smtp.host, smtp.port, timeout=smtp.timeout_seconds)


class PickupChannel:
    """Mail as one .eml file a message."""

    name = NAME

    def __init__(self, mail: Mail, pickup: Pickup) -> None:
        """Write to `pickup`."""
        self._mail, self._directory = mail, Path(pickup.directory)

    def takes(self, message: Message) -> bool:  # noqa: ARG002 - as above
        """All messages are mailed."""
        return True

    def send(self, outgoing: Outgoing) -> None:
        """Write it: the file has its name only when it is whole. Raises NotDelivered."""
        made = as_mail(outgoing, self._mail)
        whole, part = self._directory / f"{outgoing.id}.eml", self._directory / f".{outgoing.id}.part"
        try:
            part.write_bytes(made.as_bytes())
            os.replace(part, whole)  # noqa: PTH105 - said as what it is: atomic
        except OSError as error:
            problem = f"the pickup directory {self._directory} cannot be written: {error.strerror}"
            raise NotDelivered(problem, whole_channel=True) from error


def _xoauth2(connection: smtplib.SMTP, mailbox: str, token: str) -> None:
    def answer(challenge: bytes | None = None) -> str:
        # The server's challenge holds why it refuses, and is answered with nothing; then comes the error.
        return f"user={mailbox}\1auth=Bearer {token}\1\1" if challenge is None else ""

    connection.ehlo_or_helo_if_needed()
    if "XOAUTH2" not in connection.esmtp_features.get("auth", "").upper().split():
        raise NotDelivered("the mail server does not offer XOAUTH2; enable SMTP AUTH for it", whole_channel=True)
    connection.auth("XOAUTH2", answer)


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """Errors of smtplib as what they mean for the message; `where` is `host:port`. Raises NotDelivered."""
    server = f"the mail server {where}"
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        problem = f"{server} does not take the account ({_answer(error.smtp_code, error.smtp_error)}); correct it"
        raise NotDelivered(problem, whole_channel=True) from error
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        names = "; ".join(f"{address}: {_answer(*answer)}" for address, answer in error.recipients.items())
        problem = f"{server} refuses all recipients ({names})"
        raise NotDelivered(problem, permanent=all(map(_is_permanent, codes))) from error
    except smtplib.SMTPResponseException as error:
        problem = f"{server} refuses ({_answer(error.smtp_code, error.smtp_error)})"
        whole = isinstance(error, (smtplib.SMTPConnectError, smtplib.SMTPHeloError)) or error.smtp_code == 421
        permanent = _is_permanent(error.smtp_code) and not whole
        raise NotDelivered(problem, permanent=permanent, whole_channel=whole) from error
    except smtplib.SMTPNotSupportedError as error:
        problem = f"{server} does not offer what is set: {error}; correct `security` or the account"
        raise NotDelivered(problem, whole_channel=True) from error
    except (smtplib.SMTPException, OSError, ssl.SSLError) as error:
        problem = f"{server} cannot be used: {why(error)}; check host, port and security in [mail.smtp]"
        raise NotDelivered(problem, whole_channel=True) from error


def _is_permanent(code: int) -> bool:
    return 500 <= code <= 599


def _answer(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}".strip()
