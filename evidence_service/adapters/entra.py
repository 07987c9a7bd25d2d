"""Tokens of Entra ID for an application that asks for itself (OAuth 2.0 client credentials), by MSAL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msal  # type: ignore[import-untyped]  # it has none

from evidence_service.adapters.https_client import Answer, HttpsClient
from evidence_service.adapters.sending import NotDelivered
from evidence_service.notices.model import EntraApp


class _Response:
    """An answer as MSAL reads it."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.text = answer.body.decode("utf-8", "replace")
        self.headers = dict(answer.headers)

    def raise_for_status(self) -> None:
        """MSAL's interface; MSAL reads the status itself wherever the service uses it."""
        if self.status_code >= 400:
            raise NotDelivered(f"Entra ID answered with HTTP status {self.status_code}", whole_channel=True)


class _MsalHttp:
    """MSAL's connection, by our own client: TLS is verified as everywhere else, and there are no redirects."""

    def __init__(self, client: HttpsClient) -> None:
        self._client = client

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> _Response:
        """Send a form."""
        body = data if isinstance(data, str) else urlencode(data or {})
        form = {"Content-Type": "application/x-www-form-urlencoded", **_texts(headers)}
        return _Response(self._client.request("POST", _with(url, params), headers=form, body=body.encode()))

    def get(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> _Response:
        """Read a document."""
        return _Response(self._client.request("GET", _with(url, params), headers=_texts(headers)))

    def close(self) -> None:
        """Nothing stays open."""


class EntraTokens:
    """Tokens of one application for one scope; one that is good is kept in memory until it ends."""

    def __init__(self, app: EntraApp, scope: str, client: HttpsClient) -> None:
        """Ask as `app` for `scope`."""
        self._app, self._scope, self._client = app, scope, client
        self._msal: Any = None

    def token(self) -> str:
        """An access token. Raises NotDelivered, which names what Entra ID said and what to do."""
        try:
            if self._msal is None:
                # The authority is configured, so asking Microsoft's public cloud whether it is known says nothing.
                self._msal = msal.ConfidentialClientApplication(
                    self._app.client_id,
                    client_credential=self._app.client_secret,
                    authority=f"{self._app.authority.rstrip('/')}/{self._app.tenant}",
                    http_client=_MsalHttp(self._client),
                    instance_discovery=False,
                )
            answer = self._msal.acquire_token_for_client(scopes=[self._scope])
        except (ValueError, KeyError) as error:
            problem = "no settings of the tenant come from `authority`; check `tenant` and `authority`"
            raise NotDelivered(problem, whole_channel=True) from error
        token = answer.get("access_token")
        if not isinstance(token, str) or not token.isascii():
            said = str(answer.get("error_description") or answer.get("error") or "no token").split(" Trace ID")[0]
            problem = f"Entra ID gives no token; check tenant, client_id and client_secret: {said}"
            raise NotDelivered(problem, whole_channel=True)
        return token


def _with(url: str, params: Mapping[str, str] | None) -> str:
    return f"{url}?{urlencode(params)}" if params else url


def _texts(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (headers or {}).items()}
