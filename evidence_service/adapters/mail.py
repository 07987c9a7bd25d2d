"""Mail by SMTP, or as a file in a pickup directory (`domain/fas.md` G)."""

from __future__ import annotations

import contextlib
import os
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from evidence_service.adapters.entra import EntraTokens
from evidence_service.adapters.https_client import HttpsClient, tls_context, why
from evidence_service.adapters.rendering import as_mail
from evidence_service.adapters.sending import NotDelivered, Outgoing
from evidence_service.notices.model import Mail, Message, Pickup, Smtp, SmtpSecurity

NAME = "mail"
SMTP_SCOPE = "https://outlook.office365.com/.default"
_CLOSES, _TOO_LARGE = 421, 552


class SmtpChannel:
    """Mail to a mail server, one connection a message."""

    name = NAME
    combines = True

    def __init__(self, mail: Mail, smtp: Smtp) -> None:
        """Send as `mail` says, by `smtp`."""
        self._mail, self._smtp = mail, smtp
        self._refused: dict[str, tuple[str, ...]] = {}
        """Who is still to get a message that others have got, by its id; after a restart all get it again."""
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

        A server that refuses the message for good (5xx) refuses it permanently. One that cannot be reached, or does not
        take the account or the sender, is tried again: that is mended without the message. Whom it refuses for now
        (4xx, as greylisting does) gets the message later, and who has got it does not get it again.
        """
        made = as_mail(outgoing, self._mail)
        with _told(f"{self._smtp.host}:{self._smtp.port}"), self._connection() as connection:
            refused = connection.send_message(made, to_addrs=self._refused.get(outgoing.id))
        if not refused:
            self._refused.pop(outgoing.id, None)
            return
        self._refused[outgoing.id] = tuple(refused)
        problem = f"others got it, and the mail server refused {_names(refused)}"
        raise NotDelivered(problem, permanent=_all_permanent(refused), content=False)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        smtp = self._smtp
        token = None if self._tokens is None else self._tokens.token()
        connection = self._connected()
        try:
            if smtp.security is SmtpSecurity.STARTTLS:
                connection.starttls(context=tls_context(smtp.ca_file))
            if token is not None:
                _xoauth2(connection, smtp.username or "", token)
            elif smtp.username is not None:
                connection.login(smtp.username, smtp.password or "")
            yield connection
            # What was taken is taken, however the server says goodbye.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                connection.quit()
        finally:
            connection.close()

    def _connected(self) -> smtplib.SMTP:
        smtp = self._smtp
        if smtp.security is SmtpSecurity.TLS:
            context = tls_context(smtp.ca_file)
            return smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=smtp.timeout_seconds, context=context)
        return smtplib.SMTP(smtp.host, smtp.port, timeout=smtp.timeout_seconds)


class PickupChannel:
    """Mail as one .eml file a message."""

    name = NAME
    combines = True

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
        problem = f"{server} refuses all recipients ({_names(error.recipients)})"
        raise NotDelivered(problem, permanent=_all_permanent(error.recipients), content=False) from error
    except smtplib.SMTPResponseException as error:
        # Before the message itself, all but its size (RFC 1870) is about the connection, the account or the sender.
        about_it = isinstance(error, smtplib.SMTPDataError) or error.smtp_code == _TOO_LARGE
        what = "" if about_it else "; correct the account, the sender (`from`) or `security`"
        problem = f"{server} refuses ({_answer(error.smtp_code, error.smtp_error)}){what}"
        whole = not about_it or error.smtp_code == _CLOSES
        raise NotDelivered(
            problem, permanent=not whole and _is_permanent(error.smtp_code), whole_channel=whole
        ) from error
    except smtplib.SMTPNotSupportedError as error:
        problem = f"{server} does not offer what is set: {error}; correct `security` or the account"
        raise NotDelivered(problem, whole_channel=True) from error
    except (smtplib.SMTPException, OSError, ssl.SSLError) as error:
        problem = f"{server} cannot be used: {why(error)}; check host, port and security in [mail.smtp]"
        raise NotDelivered(problem, whole_channel=True) from error


def _names(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address}: {_answer(*answer)}" for address, answer in refused.items())


def _all_permanent(refused: Mapping[str, tuple[int, bytes]]) -> bool:
    return all(_is_permanent(code) for code, _ in refused.values())


def _is_permanent(code: int) -> bool:
    return 500 <= code <= 599


def _answer(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}".strip()
