"""The admin API (`/api/v1`): what the command line does to the trust in IdPs, for automation and for the console.

JSON in, JSON out, and metadata as XML; nothing of it can be sent by a form of another site, and no other site is let
read it. `{idp}` in a path is the short `id` that every answer carries, or the percent-encoded entity ID.

What waits for a disk or for somebody else's server runs in a thread.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.routing import BaseRoute

from evidence_service.access.model import Policy
from evidence_service.access.policy import PolicyError, dump_policy, policy_of
from evidence_service.adapters.database import StoreUnavailable
from evidence_service.adapters.trust_store import RolloverState, SourceConfig
from evidence_service.trust_admin.acts import (
    Subscription,
    TrustAdmin,
    Upload,
    uploaded_certificates,
    uploaded_metadata,
)
from evidence_service.trust_admin.documents import (
    MAX_AGGREGATE,
    MAX_SMALL,
    SourceFailed,
    Unusable,
    read_authorities,
    read_one_certificate,
    read_pin,
    read_policy_text,
)
from evidence_service.trust_admin.keys import SHORTEST_PREFIX, act_on_key, plan_key_act
from evidence_service.trust_admin.views import (
    alarm_json,
    certificate_view_json,
    changes_json,
    diff_json,
    fetched_json,
    find_entity_id,
    find_rollover,
    idp_json,
    outcome_json,
    refreshed_json,
    rollover_json,
    short_id,
    view_idp,
    view_idps,
)
from evidence_service.web.calls import (
    Answer,
    Call,
    Failure,
    Handler,
    Nothing,
    expect,
    flag,
    json_body,
    limited,
    query_of,
    routes_of,
    whole,
)
from evidence_service.web.text import shown
from evidence_service.web.wire import Malformed, read_json
from idp_certs.model import Acceptance
from idp_certs.reasons import TrustReason
from idp_certs.rollover import Event

MAX_UPLOADS = 2
"""Documents read at a time: each may be as large as a federation's metadata."""
MAX_BODY = MAX_AGGREGATE + MAX_SMALL

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
_Pem = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SMALL)]
_Note = Annotated[str, msgspec.Meta(max_length=1000)]


class NewIdp(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An IdP without metadata: its entity ID and all its signing certificates."""

    entity_id: _Text
    certificates: Annotated[list[_Pem], msgspec.Meta(min_length=1, max_length=32)]
    policy: dict[str, Any] | None = None


class NewSubscription(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A metadata source."""

    metadata_url: _Text
    entity_id: _Text | None = None
    acceptance: Literal["continuity", "tls", "approval"] | None = None
    policy: dict[str, Any] | None = None
    ca_pem: _Pem | None = None
    pin_sha256: _Text | None = None
    metadata_certificate_pem: _Pem | None = None


class IdpPatch(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What changes; members of the policy that are left out stay. `source` null: its metadata is fetched no more."""

    enabled: bool | None = None
    policy: dict[str, Any] | None = None
    source: msgspec.UnsetType | None = msgspec.UNSET


class KeyDecision(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Why, and the first digits of the certificate's SHA-256 where the act asks for them."""

    note: _Note = ""
    confirm: _Text | None = None


class RolloverDecision(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Why."""

    note: _Note = ""


class RolloverApproval(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Why, and the first digits of the rollover's ID where it was rejected before."""

    note: _Note = ""
    confirm: _Text | None = None


_EVENTS = {
    "approve": Event.APPROVE,
    "retire": Event.RETIRE,
    "revoke": Event.REVOKE,
    "reinstate": Event.REINSTATE,
}


_ALL = "all"


class AdminApi:
    """The calls. Who may make them is judged before they get here."""

    def __init__(self, admin: TrustAdmin, clock: Callable[[], datetime]) -> None:
        """Answer with `admin`."""
        self._admin = admin
        self._clock = clock
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)

    def routes(self) -> list[BaseRoute]:
        """Every call of the API."""
        table: tuple[tuple[str, str, Handler], ...] = (
            ("POST", "/idps", self._add),
            ("POST", "/idps:subscribe", self._subscribe),
            ("GET", "/idps", self._list),
            ("GET", "/idps/{idp}", self._show),
            ("PATCH", "/idps/{idp}", self._patch),
            ("DELETE", "/idps/{idp}", self._remove),
            ("POST", "/idps/{idp}/refresh", self._refresh),
            ("GET", "/idps/{idp}/certificates", self._certificates),
            *(("POST", f"/idps/{{idp}}/certificates/{{sha256}}/{verb}", self._act) for verb in _EVENTS),
            ("GET", "/rollovers", self._rollovers),
            ("GET", "/rollovers/{rollover}", self._rollover),
            ("POST", "/rollovers/{rollover}/approve", self._approve),
            ("POST", "/rollovers/{rollover}/reject", self._reject),
            ("GET", "/alarms", self._alarms),
        )
        return routes_of(table, self._clock)

    async def _add(self, request: Request, call: Call) -> Answer:
        query = query_of(request, "dry_run", "entity_id")
        dry_run = flag(query, "dry_run")
        async with self._uploads:
            parts = await _upload_parts(request)

            def work() -> Answer:
                upload, policy = _upload(parts, query.get("entity_id"))
                plan = self._admin.plan_import(upload, policy=policy, now=call.now, actor=call.actor)
                if not dry_run and not plan.is_known:
                    self._admin.import_planned(plan, now=call.now, actor=call.actor)
                created = plan.change.created
                answer = {
                    **_named(plan.change.entity_id),
                    "created": created,
                    "changed": not plan.is_known,
                    "dry_run": dry_run,
                    **diff_json(plan.diff, plan.signature, call.now),
                }
                return 201 if created and not dry_run else 200, answer

            return await asyncio.to_thread(work)

    async def _subscribe(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        wanted = await json_body(request, NewSubscription)

        def work() -> Answer:
            plan = self._admin.plan_subscription(_subscription(wanted), now=call.now, actor=call.actor)
            outcome = None
            if not dry_run:
                outcome = self._admin.subscribe_planned(plan, now=call.now, actor=call.actor)
            looked = plan.looked.outcome if plan.looked is not None else None
            answer = {
                **_named(plan.entity_id),
                "created": plan.imported is not None,
                "dry_run": dry_run,
                **diff_json(plan.diff, plan.signature, call.now),
                "fetched": fetched_json(plan.fetched),
                "refresh": None if (outcome or looked) is None else outcome_json(outcome or looked),  # type: ignore[arg-type]
            }
            return 201 if plan.imported is not None and not dry_run else 200, answer

        return await asyncio.to_thread(work)

    async def _list(self, request: Request, call: Call) -> Answer:
        query_of(request)
        views = await asyncio.to_thread(view_idps, self._admin, call.now)
        return 200, {"idps": [idp_json(each, call.now) for each in views]}

    async def _show(self, request: Request, call: Call) -> Answer:
        query_of(request)
        return 200, await asyncio.to_thread(self._idp, request, call)

    def _idp(self, request: Request, call: Call) -> dict[str, Any]:
        return idp_json(view_idp(self._admin, self._entity_id(request), call.now), call.now)

    def _entity_id(self, request: Request) -> str:
        return find_entity_id(self._admin, unquote(request.path_params["idp"]))

    async def _patch(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        wanted = await json_body(request, IdpPatch)

        def work() -> Answer:
            entity_id = self._entity_id(request)
            config, before = self._admin.config, self._admin.config.get_idp(self._entity_id(request))
            policy = before.policy
            if wanted.policy is not None:
                policy = _policy({**tomllib.loads(dump_policy(before.policy)), **wanted.policy})
                self._admin.usable_policy(policy)
            if wanted.source is None:
                self._admin.trust.get_source(entity_id)  # all or nothing: without one, nothing else is changed either
            if dry_run:
                return 200, {**self._idp(request, call), "dry_run": True, "policy": tomllib.loads(dump_policy(policy))}
            if policy != before.policy:
                config.set_policy(entity_id, policy, now=call.now, actor=call.actor)
            if wanted.enabled is not None and wanted.enabled is not before.enabled:
                config.set_idp_enabled(entity_id, wanted.enabled, now=call.now, actor=call.actor)
            if wanted.source is None:
                self._admin.unsubscribe(entity_id, now=call.now, actor=call.actor)
            return 200, self._idp(request, call)

        return await asyncio.to_thread(work)

    async def _remove(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")

        def work() -> Answer:
            entity_id = self._entity_id(request)
            if not dry_run:
                self._admin.config.remove_idp(entity_id, now=call.now, actor=call.actor)
            return 200, {**_named(entity_id), "removed": not dry_run, "dry_run": dry_run}

        return await asyncio.to_thread(work)

    async def _refresh(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        await json_body(request, Nothing)

        def work() -> Answer:
            entity_id = self._entity_id(request)
            if not dry_run:
                return 200, {**refreshed_json(self._admin.refresh(entity_id, now=call.now)), "dry_run": False}
            looked = self._admin.look(entity_id, now=call.now)
            if looked.diff is None:
                if looked.outcome.finding is None:
                    raise StoreUnavailable("the source could not be judged; try again") from looked.outcome.error
                raise SourceFailed(looked.outcome.finding)
            diff = diff_json(looked.diff, looked.signature, call.now)
            return 200, {**refreshed_json(looked), **diff, "dry_run": True}

        return await asyncio.to_thread(work)

    async def _certificates(self, request: Request, call: Call) -> Answer:
        query_of(request)

        def work() -> Answer:
            view = view_idp(self._admin, self._entity_id(request), call.now)
            return 200, {"certificates": [certificate_view_json(each, call.now) for each in view.certificates]}

        return await asyncio.to_thread(work)

    async def _act(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        wanted = await json_body(request, KeyDecision)
        event = _EVENTS[request.url.path.rpartition("/")[2]]

        def work() -> Answer:
            entity_id = self._entity_id(request)
            planned = plan_key_act(self._admin, entity_id, request.path_params["sha256"], event, now=call.now)
            answer: dict[str, Any] = {
                **_named(entity_id),
                "sha256": planned.named.sha256,
                "changed": not planned.is_done,
                "concerned": [each.sha256 for each in planned.concerned],
                "consequence": planned.consequence,
                "warnings": list(planned.warnings),
                "changes": [],
                "dry_run": dry_run,
            }
            if planned.is_done or dry_run:
                return 200, answer
            digits = planned.named.sha256[:SHORTEST_PREFIX]
            if planned.needs_confirmation and wanted.confirm != digits:
                raise Failure(
                    status=422,
                    code="confirmation_needed",
                    detail=f"confirm: {planned.question} Give the first {SHORTEST_PREFIX} digits of its SHA-256.",
                )
            changes = act_on_key(self._admin, planned, now=call.now, actor=call.actor, note=wanted.note)
            return 200, {**answer, "changes": changes_json(changes)}

        return await asyncio.to_thread(work)

    async def _rollovers(self, request: Request, call: Call) -> Answer:
        """Those that wait; with `?state=held|approved|rejected|superseded|all` those in that state, or all.

        Damaged ones are among them, whatever their state.
        """
        state = query_of(request, "state").get("state", RolloverState.HELD.value)
        if state not in (*RolloverState, _ALL):
            raise Malformed(f"state: expected one of {', '.join((*RolloverState, _ALL))}")

        def work() -> Answer:
            found = self._admin.trust.list_rollovers(state=None if state == _ALL else state)
            return 200, {"rollovers": [rollover_json(each, call.now) for each in found]}

        return await asyncio.to_thread(work)

    async def _rollover(self, request: Request, call: Call) -> Answer:
        """One, by its ID or at least the first 8 digits of it."""
        query_of(request)

        def work() -> Answer:
            return 200, rollover_json(find_rollover(self._admin, request.path_params["rollover"]), call.now)

        return await asyncio.to_thread(work)

    async def _approve(self, request: Request, call: Call) -> Answer:
        query_of(request)
        wanted = await json_body(request, RolloverApproval)

        def work() -> Answer:
            stored = find_rollover(self._admin, request.path_params["rollover"])
            name, digits = stored.id, stored.id[:SHORTEST_PREFIX]
            if stored.state is RolloverState.REJECTED and wanted.confirm != digits:
                raise Failure(
                    status=422,
                    code="confirmation_needed",
                    detail=f"confirm: rollover {name} was rejected by {stored.decided_by}, and approving it now trusts "
                    f"its certificates. Give the first {SHORTEST_PREFIX} digits of its id.",
                )
            changes = self._admin.trust.approve_rollover(name, now=call.now, actor=call.actor, note=wanted.note)
            rollover = rollover_json(self._admin.trust.get_rollover(name), call.now)
            return 200, {**rollover, "changes": changes_json(changes)}

        return await asyncio.to_thread(work)

    async def _reject(self, request: Request, call: Call) -> Answer:
        query_of(request)
        wanted = await json_body(request, RolloverDecision)

        def work() -> Answer:
            name = find_rollover(self._admin, request.path_params["rollover"]).id
            self._admin.trust.reject_rollover(name, now=call.now, actor=call.actor, note=wanted.note)
            return 200, rollover_json(self._admin.trust.get_rollover(name), call.now)

        return await asyncio.to_thread(work)

    async def _alarms(self, request: Request, call: Call) -> Answer:  # noqa: ARG002 - as all
        query_of(request)
        alarms = await asyncio.to_thread(self._admin.trust.open_alarms)
        return 200, {"alarms": [alarm_json(each) for each in alarms]}


def _named(entity_id: str) -> dict[str, Any]:
    return {"id": short_id(entity_id), "entity_id": entity_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What was uploaded: a document with what stands beside it, or members."""

    document: bytes | None = None
    entity_id: str | None = None
    policy: str | None = None
    members: NewIdp | None = None


_XML = ("application/samlmetadata+xml", "application/xml", "text/xml")


async def _upload_parts(request: Request) -> _Parts:
    media, parameters = expect(request, "application/json", *_XML, "multipart/form-data")
    if media == "application/json":
        return _Parts(members=read_json(await whole(request, MAX_SMALL), NewIdp))
    if media in _XML:
        return _Parts(document=await whole(request, MAX_AGGREGATE))
    if not parameters.get(b"boundary"):
        raise Malformed("Content-Type: multipart/form-data without a boundary")
    parser = MultiPartParser(
        request.headers, limited(request, MAX_BODY), max_files=2, max_fields=3, max_part_size=MAX_SMALL
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Malformed(f"the multipart body cannot be read: {shown(error.message, 200)}") from error
    try:
        return await _form_parts(form)
    finally:
        await form.close()


async def _form_parts(form: FormData) -> _Parts:
    found: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name not in ("metadata", "policy", "entity_id"):
            raise Malformed(f"{shown(name, 64)}: there is no such part; known are metadata, policy, entity_id")
        if name in found:
            raise Malformed(f"{name}: the part is given more than once")
        # What the sender calls its file is not looked at.
        found[name] = await value.read() if isinstance(value, UploadFile) else value.encode("utf-8", "surrogateescape")
    if "metadata" not in found:
        raise Malformed("metadata: the part is missing")
    return _Parts(document=found["metadata"], entity_id=_utf8(found, "entity_id"), policy=_utf8(found, "policy"))


def _utf8(parts: Mapping[str, bytes], name: str) -> str | None:
    if name not in parts:
        return None
    try:
        return parts[name].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"{name}: not UTF-8 at byte {error.start}") from error


def _upload(parts: _Parts, entity_id: str | None) -> tuple[Upload, Policy | None]:
    """What to import. Raises Malformed and Unusable."""
    members = parts.members
    if members is not None:
        if entity_id is not None:
            raise Malformed("entity_id: give it in the body")
        pem = _pem("\n".join(members.certificates))
        return uploaded_certificates(pem, members.entity_id), _optional_policy(members.policy)
    if entity_id is not None and parts.entity_id is not None:
        raise Malformed("entity_id: give it as a part or in the query, and not both")
    policy = None if parts.policy is None else read_policy_text(parts.policy)
    document = parts.document or b""
    if not document.strip():
        code = TrustReason.XML_MALFORMED
        text = "there is no document in it; send the IdP's metadata as the body, or as its part `metadata`"
        raise Unusable("metadata", f"{code}: {text}", code=str(code))
    return uploaded_metadata(document, entity_id or parts.entity_id), policy


def _pem(text: str) -> bytes:
    """The bytes; JSON can write texts that are no characters, and they are refused as what they are: no PEM."""
    return text.encode("utf-8", "surrogatepass")


def _optional_policy(members: Mapping[str, Any] | None) -> Policy | None:
    return None if members is None else _policy(members)


def _policy(members: Mapping[str, Any]) -> Policy:
    try:
        return policy_of(members)
    except PolicyError as error:
        raise Unusable("policy", str(error)) from None


def _subscription(wanted: NewSubscription) -> Subscription:
    certificate = wanted.metadata_certificate_pem
    return Subscription(
        source=SourceConfig(
            url=wanted.metadata_url,
            ca_pem=None if wanted.ca_pem is None else read_authorities(_pem(wanted.ca_pem)),
            pin_sha256=None if wanted.pin_sha256 is None else read_pin(wanted.pin_sha256),
            metadata_certificate=None
            if certificate is None
            else read_one_certificate("metadata_certificate_pem", _pem(certificate)),
        ),
        entity_id=wanted.entity_id,
        policy=_optional_policy(wanted.policy),
        acceptance=None if wanted.acceptance is None else Acceptance(wanted.acceptance),
    )
