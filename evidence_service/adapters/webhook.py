"""Messages posted to an address: a Teams workflow, Slack, or a program that reads JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from evidence_service.adapters.https_client import HttpsClient
from evidence_service.adapters.rendering import fitting, title_of
from evidence_service.adapters.sending import NotDelivered, Outgoing, harmless
from evidence_service.notices.model import Message, Webhook, WebhookFormat
from idp_certs.alarms import Severity, instant_text

PREFIX = "webhook:"
_SLACK_HEADER, _SLACK_TEXT, _SLACK_FIELD, _SLACK_FIELDS, _SLACK_BLOCKS = 150, 3000, 2000, 10, 50
"""Limits of https://docs.slack.dev/reference/block-kit/blocks."""
_WRONG_ADDRESS = frozenset({401, 403, 404, 405, 410})
_TEAMS_COLOURS = {Severity.NOTICE: "Accent", Severity.WARNING: "Warning", Severity.CRITICAL: "Attention"}


class WebhookChannel:
    """Posts to one address."""

    def __init__(self, webhook: Webhook) -> None:
        """Post to `webhook`."""
        self.name = f"{PREFIX}{webhook.name}"
        # Programs take each fact by itself.
        self.combines = webhook.format is not WebhookFormat.JSON
        self._webhook = webhook
        self._client = HttpsClient(
            ca_file=webhook.ca_file, timeout_seconds=webhook.timeout_seconds, allow_http=webhook.allow_http
        )

    def takes(self, message: Message) -> bool:
        """All messages, or those that are urgent."""
        return message.urgent or not self._webhook.urgent_only

    def send(self, outgoing: Outgoing) -> None:
        """Post it now. Raises NotDelivered: for good where the server says that the request is wrong (4xx).

        An address that is wrong or is taken away is corrected without the message, which is tried again.
        """
        content = _content(outgoing, self._webhook.format)
        answer = self._client.request(
            "POST",
            self._webhook.url,
            headers={"Content-Type": "application/json", "Idempotency-Key": outgoing.id},
            body=content,
        )
        status, host = answer.status, urlsplit(self._webhook.url).netloc
        if 200 <= status < 300:
            return
        if status in {408, 429} or status >= 500:
            problem = f"{host} answered {status}, which is for now; look at that server where it stays so"
            raise NotDelivered(problem, whole_channel=True, retry_after=answer.retry_after())
        if 300 <= status < 400 or status in _WRONG_ADDRESS:
            what = "redirects elsewhere" if status < 400 else "does not take messages at this address"
            raise NotDelivered(
                f"{host} answered {status}: it {what}; correct the URL in `url_file`", whole_channel=True
            )
        raise NotDelivered(f"{host} answered {status}: it refuses the message; correct `format`", permanent=True)


_MOST: Mapping[WebhookFormat, int] = {
    WebhookFormat.TEAMS: 14_000,
    WebhookFormat.SLACK: 12_000,
    WebhookFormat.JSON: 256_000,
}
"""Bytes of a whole message. Teams takes 28 KB (learn.microsoft.com, limits-specifications-teams), counted as UTF-16.
Slack refuses blocks from about 13 000 characters on (msg_blocks_too_long, slackapi/bolt-js 2509)."""


def _content(outgoing: Outgoing, form: WebhookFormat) -> bytes:
    """What is posted: cut as far as the receiver's limits ask for it."""
    most = _MOST[form]

    def fits(each: Outgoing) -> bool:
        made = _FORMATS[form](each)
        return len(json.dumps(made)) <= most and (form is not WebhookFormat.SLACK or _fits_slack(made))

    return json.dumps(_FORMATS[form](fitting(outgoing, fits, most))).encode()


def _json(outgoing: Outgoing) -> Mapping[str, Any]:
    message = outgoing.message
    return {
        "id": outgoing.id,
        "created_at": instant_text(outgoing.created_at),
        "kind": message.kind,
        "about": message.about.value,
        "subject": message.subject,
        "severity": message.severity.value,
        "audience": message.audience.value,
        "urgent": message.urgent,
        "title": message.title,
        "paragraphs": list(message.paragraphs),
        "facts": [{"name": name, "value": value} for name, value in message.facts],
        "todo": list(message.todo),
    }


def _teams(outgoing: Outgoing) -> Mapping[str, Any]:
    """An Adaptive Card as the Teams workflow "when a webhook request is received" takes it.

    Texts are runs of a RichTextBlock, in which nothing is Markdown: no name can show as a link.
    """
    message = outgoing.message
    heading = {"size": "Large", "weight": "Bolder", "color": _TEAMS_COLOURS[message.severity]}
    body = [
        _rich({"text": title_of(message), **heading}),
        *(_rich({"text": harmless(each)}) for each in message.paragraphs),
    ]
    if message.todo:
        body.append(_rich({"text": "What to do", "weight": "Bolder"}))
        body += [_rich({"text": f"{number}. {harmless(each)}"}) for number, each in enumerate(message.todo, 1)]
    body += [
        _rich({"text": f"{harmless(name)}: ", "isSubtle": True}, {"text": harmless(value), "fontType": "Monospace"})
        for name, value in message.facts
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    content_type = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": content_type, "contentUrl": None, "content": card}]}


def _rich(*runs: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", **run} for run in runs]}


def _slack(outgoing: Outgoing) -> Mapping[str, Any]:
    """Blocks of plain text, in which nothing is markup."""
    message, title = outgoing.message, title_of(outgoing.message)
    texts = [harmless(each) for each in message.paragraphs if each]
    if message.todo:
        texts.append("\n".join(f"{number}. {harmless(each)}" for number, each in enumerate(message.todo, 1)))
    facts = [_plain(f"{harmless(name)}: {harmless(value)}") for name, value in message.facts]
    short = title if len(title) <= _SLACK_HEADER else f"{title[: _SLACK_HEADER - 1]}\u2026"
    blocks: list[Mapping[str, Any]] = [{"type": "header", "text": _plain(short)}]
    blocks += [{"type": "section", "text": _plain(each)} for each in texts]
    blocks += [
        {"type": "section", "fields": facts[start : start + _SLACK_FIELDS]}
        for start in range(0, len(facts), _SLACK_FIELDS)
    ]
    # The text of the notification is markup; these three characters are all that means something in it.
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": escaped, "blocks": blocks}


def _fits_slack(made: Mapping[str, Any]) -> bool:
    blocks = made["blocks"]
    texts = [each["text"]["text"] for each in blocks if "text" in each]
    fields = [field["text"] for each in blocks for field in each.get("fields", ())]
    return (
        len(blocks) <= _SLACK_BLOCKS
        and max(map(len, texts)) <= _SLACK_TEXT
        and max(map(len, fields), default=0) <= _SLACK_FIELD
    )


def _plain(text: str) -> Mapping[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


_FORMATS: Mapping[WebhookFormat, Callable[[Outgoing], Mapping[str, Any]]] = {
    WebhookFormat.TEAMS: _teams,
    WebhookFormat.SLACK: _slack,
    WebhookFormat.JSON: _json,
}
