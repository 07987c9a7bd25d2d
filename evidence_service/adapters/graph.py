"""Mail by Microsoft Graph: sendMail for the mailbox of the sender (`domain/fas.md` G)."""

from __future__ import annotations

import base64
import json
from email.utils import parseaddr
from urllib.parse import quote

from evidence_service.adapters.entra import EntraTokens
from evidence_service.adapters.https_client import Answer, HttpsClient
from evidence_service.adapters.rendering import as_mail
from evidence_service.adapters.sending import NotDelivered, Outgoing
from evidence_service.notices.model import Graph, Mail, Message

_REMEDIES = {
    401: "the token is not taken; check the application",
    403: "the application may not send as this mailbox; grant Mail.Send for it",
    404: "the mailbox of the sender does not exist; correct `from`",
}


class GraphChannel:
    """Mail by Microsoft Graph."""

    name = "mail"
    combines = True

    def __init__(self, mail: Mail, graph: Graph) -> None:
        """Send as `mail` says, by `graph`."""
        self._mail, self._graph = mail, graph
        self._client = HttpsClient(ca_file=graph.ca_file, timeout_seconds=graph.timeout_seconds)
        self._tokens = EntraTokens(graph.app, f"{graph.endpoint.rstrip('/')}/.default", self._client)

    def takes(self, message: Message) -> bool:  # noqa: ARG002 - all are mailed
        """All messages are mailed."""
        return True

    def send(self, outgoing: Outgoing) -> None:
        """Send it now, as a whole MIME message, so that the id is ours. Raises NotDelivered."""
        sender = quote(parseaddr(self._mail.sender)[1], safe="@")
        answer = self._client.request(
            "POST",
            f"{self._graph.endpoint.rstrip('/')}/v1.0/users/{sender}/sendMail",
            headers={
                "Authorization": f"Bearer {self._tokens.token()}",
                "Content-Type": "text/plain",
                "client-request-id": outgoing.id,
            },
            body=base64.b64encode(as_mail(outgoing, self._mail).as_bytes()),
        )
        if not 200 <= answer.status < 300:
            raise _refused(answer)


def _refused(answer: Answer) -> NotDelivered:
    status = answer.status
    problem = f"Microsoft Graph answered {status} {_code(answer)}".strip()
    if status in _REMEDIES:
        return NotDelivered(f"{problem}: {_REMEDIES[status]}", whole_channel=True)
    if status == 429 or status >= 500:
        patience = answer.retry_after()
        return NotDelivered(problem, whole_channel=status == 429, retry_after=patience)
    return NotDelivered(problem, permanent=True)


def _code(answer: Answer) -> str:
    """The error code of the answer, as https://learn.microsoft.com/graph/errors has it."""
    try:
        return str(json.loads(answer.body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
