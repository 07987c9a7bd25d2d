"""The PowerShell side of simulated remoting: runspace pools in which cmdlets of a simulated FAS server run by name.

The protocol is psrpcore's. A pipeline is one cmdlet, as a JEA endpoint would have it; scripts are refused.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psrpcore import (
    Command,
    CreatePipelineEvent,
    EndOfPipelineInputEvent,
    PowerShell,
    PSRPPayload,
    ServerPipeline,
    ServerRunspacePool,
    StreamType,
)
from psrpcore.types import (
    ErrorCategory,
    ErrorCategoryInfo,
    ErrorRecord,
    NETException,
    PSDateTime,
    PSDuration,
    PSEnumBase,
    PSGuid,
    PSInvocationState,
    PSNoteProperty,
    PSObject,
    PSType,
)

from evidence_service.demo.fas_binding import Guid, PsObject, Word
from evidence_service.demo.fas_farm import FarmServer, SimulatedFarm, Trouble
from evidence_service.demo.fas_server import CmdletError

_FRAGMENT = 100_000
_E_FAIL = -2146233087
_MANAGEMENT = "Citrix.Authentication.FederatedAuthenticationService"


class AnswerLost(Exception):  # noqa: N818 - planted, not an error of the program
    """The connection is to be cut where an answer was due."""


@PSType([f"{_MANAGEMENT}.AuthorizationCertificateStatus"])
class _Status(PSEnumBase):
    Ok = 0
    WaitingForApproval = 1
    MaintenanceRequired = 2
    Expired = 3
    NotYetValid = 4
    Denied = 5
    Pending = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a client that asked for output gets: fragments, and whether the pipeline has ended."""

    fragments: tuple[bytes, ...]
    ended: bool


@dataclass(slots=True, kw_only=True)
class _Pipeline:
    pipeline: ServerPipeline
    started: bool = False
    ended: bool = False
    lost: bool = False
    fragments: list[bytes] = field(default_factory=list)


class RunspaceHost:
    """One client's runspace pool on one FAS server. Thread-safe."""

    def __init__(self, farm: SimulatedFarm, server: FarmServer, account: str, stopping: threading.Event) -> None:
        """For `account`; what still runs when `stopping` is set is given up."""
        self._farm, self._server, self._account, self._stopping = farm, server, account, stopping
        self._pool = ServerRunspacePool()
        self._pipelines: dict[uuid.UUID, _Pipeline] = {}
        self._fragments: list[bytes] = []
        self._changed = threading.Condition()

    def open_pipeline(self, pipeline_id: uuid.UUID, data: bytes) -> None:
        """Make a pipeline of the first fragment of its description."""
        with self._changed:
            self._pipelines[pipeline_id] = _Pipeline(pipeline=ServerPipeline(self._pool, pipeline_id))
        self.take(pipeline_id, data)

    def take(self, pipeline_id: uuid.UUID | None, data: bytes) -> None:
        """Take a fragment, of the pool or of a pipeline, and start what is complete."""
        with self._changed:
            self._pool.receive_data(PSRPPayload(data, StreamType.default, pipeline_id))
            while (event := self._pool.next_event()) is not None:
                starts = isinstance(event, EndOfPipelineInputEvent) or (
                    isinstance(event, CreatePipelineEvent) and event.pipeline.no_input
                )
                known = self._pipelines.get(event.pipeline_id) if event.pipeline_id is not None else None
                if starts and known is not None and not known.started:
                    known.started = True
                    threading.Thread(target=self._run, args=(known,), daemon=True).start()
            self._drain()

    def receive(self, pipeline_id: uuid.UUID | None, seconds: float) -> Received | None:
        """What was written since; None: nothing within `seconds`. Raises AnswerLost, KeyError."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._stopping.is_set():
                received = self._received(pipeline_id)
                left = deadline - time.monotonic()
                if received is not None or left <= 0:
                    return received
                self._changed.wait(left)
        return None

    def stop(self, pipeline_id: uuid.UUID) -> None:
        """Stop a pipeline: nothing more is written. What FAS was asked for goes on, as it does on a real server."""
        with self._changed:
            known = self._pipelines.get(pipeline_id)
            if known is not None and not known.ended:
                if known.pipeline.state is PSInvocationState.Running:
                    known.pipeline.stop()
                known.ended = True
                self._drain()

    def close(self) -> None:
        """Wake whoever waits."""
        with self._changed:
            self._changed.notify_all()

    def _received(self, pipeline_id: uuid.UUID | None) -> Received | None:
        if pipeline_id is None:
            fragments, self._fragments = tuple(self._fragments), []
            return Received(fragments=fragments, ended=False) if fragments else None
        known = self._pipelines[pipeline_id]
        if known.lost:
            known.lost = False
            raise AnswerLost
        fragments, known.fragments = tuple(known.fragments), []
        return Received(fragments=fragments, ended=known.ended) if fragments or known.ended else None

    def _run(self, known: _Pipeline) -> None:
        with self._changed:
            known.pipeline.start()
            self._drain()
        trouble = Trouble()
        try:
            name, parameters = _only_cmdlet(known.pipeline)
            if self._server.hangs:
                return
            trouble = self._farm.trouble(self._server, name)
            if self._stopping.wait(trouble.seconds):
                return
            objects = self._farm.perform(self._server, name, parameters, self._account)
            self._end(known, objects=objects, lost=trouble.lost)
        except CmdletError as error:
            self._end(known, error=error, lost=trouble.lost)

    def _end(
        self,
        known: _Pipeline,
        *,
        objects: tuple[PsObject, ...] = (),
        error: CmdletError | None = None,
        lost: bool = False,
    ) -> None:
        with self._changed:
            if known.ended:
                return
            if lost:
                known.lost = True
            elif error is not None and error.terminating:
                # psrpcore has no public way to end a pipeline by an error.
                known.pipeline._change_state(PSInvocationState.Failed, error=_record(error))  # noqa: SLF001
            else:
                for each in objects:
                    known.pipeline.write_output(_wire_object(each))
                if error is not None:
                    record = _record(error)
                    known.pipeline.write_error(
                        record.Exception,
                        category_info=record.CategoryInfo,
                        fully_qualified_error_id=error.error_id,
                    )
                known.pipeline.complete()
            known.ended = not lost
            self._drain()

    def _drain(self) -> None:
        while (payload := self._pool.data_to_send(_FRAGMENT)) is not None:
            known = None if payload.pipeline_id is None else self._pipelines[payload.pipeline_id]
            (self._fragments if known is None else known.fragments).append(payload.data)
        self._changed.notify_all()


def _only_cmdlet(pipeline: ServerPipeline) -> tuple[str, dict[str, object]]:
    """The one cmdlet with its named parameters. Raises CmdletError for scripts and for more than one."""
    metadata = pipeline.metadata
    commands: list[Command] = metadata.commands if isinstance(metadata, PowerShell) else []
    if len(commands) != 1 or commands[0].is_script or any(not name for name, _ in commands[0].parameters):
        raise CmdletError(
            "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode.",
            "ScriptsNotAllowed",
            "ParserError",
        )
    return str(commands[0].command_text), {str(name): _plain(value) for name, value in commands[0].parameters}


def _plain(value: object) -> object:
    """A value as it was before it travelled."""
    if value is None or isinstance(value, bool | datetime | timedelta):
        return value
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(each) for each in value)
    return str(value)


def _wire_object(properties: PsObject) -> PSObject:
    """An object of a type that the client does not know, with adapted properties, as FAS's objects arrive."""
    made = PSObject()
    made.PSObject.type_names = [f"{_MANAGEMENT}.Result", "System.Object"]
    made.PSObject.adapted_properties = [PSNoteProperty(name, value=_wire(value)) for name, value in properties.items()]
    return made


def _wire(value: object) -> object:
    if isinstance(value, Word):
        return _Status[value] if value in _Status.__members__ else str(value)
    if isinstance(value, Guid):
        return PSGuid(value)
    if isinstance(value, datetime):
        return PSDateTime.fromtimestamp(value.timestamp(), value.tzinfo)
    if isinstance(value, timedelta):
        return PSDuration(days=value.days, seconds=value.seconds)
    return value


def _record(error: CmdletError) -> ErrorRecord:
    return ErrorRecord(
        Exception=NETException(Message=str(error), HResult=_E_FAIL),
        CategoryInfo=ErrorCategoryInfo(Category=ErrorCategory[error.category], Reason="Exception", Activity="FAS"),
        FullyQualifiedErrorId=error.error_id,
    )
