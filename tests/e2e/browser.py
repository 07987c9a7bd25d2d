"""The smallest browser that signs a user in: follow redirects, fill in forms, stop at the one with a SAML Response."""

from __future__ import annotations

import base64
import secrets
import ssl
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from lxml import html

GATEWAY = "https://gw.example"
ACS = "https://gw.example/cgi/samlauth"
MAX_STEPS = 12

_AUTHN_REQUEST = """\
<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"
    xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{id}" Version="2.0" IssueInstant="{now:%Y-%m-%dT%H:%M:%SZ}"
    Destination="{destination}" AssertionConsumerServiceURL="{acs}"
    ProtocolBinding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"><saml:Issuer>{issuer}</saml:Issuer>
</samlp:AuthnRequest>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What the browser was told to post to the assertion consumer service: base64, and the XML it stands for."""

    form: bytes
    xml: bytes


def loopback() -> httpx.Client:
    """A new HTTP client for servers of this machine: no proxy, no TLS, and so no reading of all the world's roots."""
    return httpx.Client(
        timeout=30, follow_redirects=True, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )


def sign_in(sso_url: str, *, user: str, password: str, audience: str = GATEWAY) -> Posted:
    """Sign in by an AuthnRequest of `audience` over the redirect binding; stop at the form that posts to `ACS`.

    Raises AssertionError with the last page where the sign-in does not get there.
    """
    request = _AUTHN_REQUEST.format(
        id="_" + secrets.token_hex(16), now=datetime.now(UTC), destination=sso_url, acs=ACS, issuer=audience
    )
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflate.compress(request.encode()) + deflate.flush()
    start = httpx.URL(sso_url).copy_merge_params({"SAMLRequest": base64.b64encode(deflated).decode()})
    with loopback() as client:
        page = client.get(start)
        for _ in range(MAX_STEPS):
            assert page.status_code == 200, f"{page.url} answered {page.status_code}: {page.text[:2000]}"
            forms = html.fromstring(page.text, base_url=str(page.url)).forms
            assert forms, f"{page.url} has no form: {page.text[:2000]}"
            form = forms[0]
            form.make_links_absolute()
            if "SAMLResponse" in form.fields:
                assert form.action == ACS
                encoded = str(form.fields["SAMLResponse"])
                return Posted(form=encoded.encode(), xml=base64.b64decode(encoded))
            values = dict(form.form_values())
            if "password" in form.fields:
                values |= {"username": user, "password": password}
            page = client.request(form.method, form.action or str(page.url), data=values)
    raise AssertionError(f"no SAML Response after {MAX_STEPS} pages; the last was {page.url}: {page.text[:2000]}")
