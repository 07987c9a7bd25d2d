"""PowerShell remoting to a FAS server: MS-PSRP over WinRM, always HTTPS, by pypsrp.

A request is never sent twice, no request is redirected, no proxy or `.netrc` of the environment is used, and no call
waits past its deadline, whatever the server does.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from itertools import islice
from threading import Lock, Thread
from time import monotonic
from typing import Any, Self

from psrpcore.types import ErrorCategory
from pypsrp.complex_objects import GenericComplexObject, PSInvocationState
from pypsrp.exceptions import AuthenticationError, SerializationError, WinRMTransportError, WSManFaultError
from pypsrp.messages import ErrorRecordMessage
from pypsrp.powershell import PowerShell as Pipeline
from pypsrp.powershell import RunspacePool
from pypsrp.serializer import Serializer
from pypsrp.wsman import WSMan
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as NotConnected
from requests.exceptions import ConnectTimeout, ProxyError, SSLError, TooManyRedirects
from spnego.exceptions import SpnegoError
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ReadTimeoutError

from evidence_service.adapters.https_client import tls_context
from evidence_service.adapters.powershell import MOST_OBJECTS, CmdletResult, ErrorRecord, allowed, instant, one_line
from evidence_service.renewal.cmdlets import SNAPIN, Argument, Cmdlet
from evidence_service.renewal.farm import WinRm, WinRmAuth
from evidence_service.renewal.ports import FasAnswerUnknown, FasUnreachable

# pypsrp logs what it raises as well, with a traceback; what is raised says it.
logging.getLogger("pypsrp").setLevel(logging.CRITICAL)

_POLL_SECONDS = 20
"""How long the server may hold one question for output before it answers that there is nothing yet (MS-WSMV)."""
_CLOSING_SECONDS = 5.0
_GIVING_UP_SECONDS = 2.0
_GRACE_SECONDS = 0.5
"""How much longer than the deadline is waited, for the more telling error of the connection itself."""
_IDLE_SECONDS = 900
"""After which the server itself drops a session that nobody closed."""
_MOST_BYTES = 32 * 1024 * 1024
"""Of all answers to one call, as they come through TLS; the longest that is asked for, two logs, are some 5 MiB."""
_MOST_BYTES_OF_MESSAGE = 1024 * 1024
"""pypsrp asks for no longer envelope than 500 KiB (MaxEnvelopeSize), and WinRM sends none."""
_MOST_CHARACTERS = 1024 * 1024
"""Of one object as XML."""
_MOST_VALUES = 200_000
"""In all objects of a call. A value that is referred to again counts again, as references could double without end."""
_MOST_CAUSES = 8
_MOST_UNENDED = 3
_ACCESS_DENIED = 5
_NO_SUCH_SHELL = 0x8033805B


class WinRmPowerShell:
    """A session on the machine that a `WinRm` names; implements `evidence_service.adapters.powershell.PowerShell`."""

    def __init__(self, connection: WinRm) -> None:
        """Connect nothing yet."""
        self._connection = connection
        self._wsman: _BoundedWsMan | None = None
        self._pool: RunspacePool | None = None

    def __enter__(self) -> Self:
        """Open the session and load FAS's snap-in. Raises FasUnreachable."""
        try:
            self._open()
            if self._connection.load_snapin:
                self._load_snapin()
        except BaseException:
            self._close(_GIVING_UP_SECONDS)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the session; a server that no longer answers is left to drop it."""
        self._close(_CLOSING_SECONDS)

    def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
        """Call one cmdlet; `operation_seconds` bound it. Raises FasUnreachable, FasAnswerUnknown, ValueError."""
        allowed(cmdlet)
        if self._pool is None or self._wsman is None:
            raise FasUnreachable(f"{self._where}: the session is closed; it is opened anew next time.")
        self._wsman.allowance.renew(self._connection.operation_seconds)
        pipeline = Pipeline(self._pool).add_cmdlet(cmdlet.name).add_parameters(_arguments(cmdlet.parameters))
        self._send(pipeline, cmdlet)
        return self._answer(pipeline, cmdlet)

    @property
    def _where(self) -> str:
        return f"{self._connection.host}:{self._connection.port}"

    def _open(self) -> None:
        try:
            _UNENDED.check(self._where)
            self._wsman = _BoundedWsMan(self._connection)
            self._wsman.allowance.renew(self._connection.operation_seconds)
            self._pool = RunspacePool(
                self._wsman, configuration_name=self._connection.configuration_name, idle_timeout=_IDLE_SECONDS
            )
            self._pool._serializer = self._pool._fragmenter.serializer = _Clixml()  # noqa: SLF001 - it has no setting
            self._pool.open()
        except Exception as error:
            raise FasUnreachable(f"{self._where}: {_remedy(self._connection, error)}") from error

    def _load_snapin(self) -> None:
        try:
            result = self.invoke(Cmdlet(name="Add-PSSnapin", parameters={"Name": SNAPIN}))
        except FasAnswerUnknown as error:
            raise FasUnreachable(str(error)) from error  # nothing was asked of FAS itself
        if result.errors:
            raise FasUnreachable(
                f"{self._where}: {SNAPIN} was not loaded ({one_line(result.errors[0].message)}). Install FAS's "
                "PowerShell snap-in there, or set load_snapin = false where the session configuration loads it."
            )

    def _send(self, pipeline: Pipeline, cmdlet: Cmdlet) -> None:
        try:
            pipeline.begin_invoke()
        except Exception as error:
            self._close(_GIVING_UP_SECONDS)
            if _certainly_not_sent(error):
                raise FasUnreachable(f"{self._where}: {_remedy(self._connection, error)}") from error
            raise FasAnswerUnknown(f"{self._where}: {cmdlet.name} was sent, and then: {_cause(error)}") from error

    def _answer(self, pipeline: Pipeline, cmdlet: Cmdlet) -> CmdletResult:
        try:
            while pipeline.state == PSInvocationState.RUNNING:
                pipeline.poll_invoke()
                _bounded(pipeline)
            result = _result(pipeline)
        except Exception as error:
            self._give_up(pipeline)
            raise FasAnswerUnknown(f"{self._where}: {cmdlet.name} gave no whole answer: {_cause(error)}") from error
        if pipeline.state not in {PSInvocationState.COMPLETED, PSInvocationState.FAILED}:
            self._close(_GIVING_UP_SECONDS)
            raise FasAnswerUnknown(f"{self._where}: {cmdlet.name} was stopped on the server before it ended.")
        with contextlib.suppress(Exception):  # it has answered; only its place on the server is freed here
            pipeline.close()
        return result

    def _give_up(self, pipeline: Pipeline) -> None:
        if self._wsman is not None:
            self._wsman.allowance.renew(_GIVING_UP_SECONDS)
            with contextlib.suppress(Exception):
                pipeline.stop()
        self._close(_GIVING_UP_SECONDS)

    def _close(self, seconds: float) -> None:
        pool, wsman, self._pool, self._wsman = self._pool, self._wsman, None, None
        if wsman is None:
            return
        wsman.allowance.renew(seconds)
        with contextlib.suppress(Exception):
            if pool is not None:
                pool.close()
        with contextlib.suppress(Exception):
            wsman.close()


class _OverLimitError(Exception):
    """An answer, or what earlier calls left behind, is more than is taken from one server."""


class _Allowance:
    """What a call has left: time, and bytes of the whole answer and of each message of it."""

    _deadline = 0.0
    _call = _message = 0

    def renew(self, seconds: float) -> None:
        """Begin a call."""
        self._deadline, self._call = monotonic() + seconds, _MOST_BYTES

    def begin_message(self) -> float:
        """The seconds that are left for it. Raises TimeoutError."""
        self._message = _MOST_BYTES_OF_MESSAGE
        return self.left()

    def left(self) -> float:
        """Seconds. Raises TimeoutError when none are left."""
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("it took longer than operation_timeout")
        return left

    def take(self, count: int) -> None:
        """So many bytes came. Raises _OverLimitError."""
        self._call -= count
        self._message -= count
        if self._call < 0:
            raise _OverLimitError(f"its answer has more than {_MOST_BYTES >> 20} MiB")
        if self._message < 0:
            raise _OverLimitError(f"one message of its answer has more than {_MOST_BYTES_OF_MESSAGE >> 20} MiB")


class _Unended:
    """Calls that took longer than was waited for, by server, until their threads end by themselves. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._threads: dict[str, list[Thread]] = {}

    def add(self, server: str, thread: Thread) -> None:
        with self._lock:
            self._threads.setdefault(server, []).append(thread)

    def check(self, server: str) -> None:
        """Raises _OverLimitError where too many go on."""
        with self._lock:
            going = [each for each in self._threads.pop(server, ()) if each.is_alive()]
            if going:
                self._threads[server] = going
        if len(going) >= _MOST_UNENDED:
            raise _OverLimitError(f"{len(going)} earlier calls to it have not ended yet, so that none is added")


_UNENDED = _Unended()


class _BoundedWsMan(WSMan):
    """WS-Management that sends each message once and stays within its `allowance`."""

    def __init__(self, connection: WinRm) -> None:
        self.allowance = _Allowance()
        super().__init__(
            connection.host,
            port=connection.port,
            username=connection.username,
            password=connection.password,
            auth=connection.auth.value,
            ssl=True,
            cert_validation=True,
            no_proxy=True,
            reconnection_retries=0,
            certificate_pem=connection.client_certificate,
            certificate_key_pem=connection.client_key,
        )
        self._connect_seconds = connection.connect_seconds
        self._server = f"{connection.host}:{connection.port}"
        self._abandoned = False
        # pypsrp has no setting for these: its session would ask the environment for proxies, `.netrc` and CA files,
        # follow redirects with the command in hand, and trust certifi's authorities instead of the system's.
        session = self.transport._build_session()  # noqa: SLF001
        session.trust_env = False
        session.max_redirects = 0
        session.verify = True
        session.mount("https://", _TlsAdapter(connection.ca_file, self.allowance))
        self.transport.session = session

    def invoke(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - XML, whose type this package does not name
        """Send one message (action, address, body, options, selectors); time-outs and retries are the allowance's."""
        del kwargs
        remaining = self.allowance.begin_message()
        if self._abandoned:
            raise TimeoutError("an earlier message of this session has not ended")
        self.operation_timeout = max(1, min(_POLL_SECONDS, int(remaining)))
        self.transport.connection_timeout = min(self._connect_seconds, remaining)  # type: ignore[assignment] # s
        self.transport.read_timeout = remaining  # type: ignore[assignment] # requests takes fractions
        return self._within(remaining + _GRACE_SECONDS, partial(super().invoke, *args[:5]))

    def _within(self, seconds: float, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - as the call
        """What the call returns or raises. Raises TimeoutError where it takes longer, and leaves it to end by itself.

        On the connection it ends by the allowance; nothing bounds the look-up of a name or of a Kerberos ticket.
        """
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                future.set_exception(error)

        thread = Thread(target=run, name=f"WinRM {self._server}", daemon=True)
        thread.start()
        try:
            return future.result(seconds)
        finally:
            if not future.done():
                self._abandoned = True
                _UNENDED.add(self._server, thread)


class _TlsAdapter(HTTPAdapter):
    """TLS by the system's certificate authorities, or by those of one file alone, within an allowance."""

    def __init__(self, ca_file: str | None, allowance: _Allowance) -> None:
        self._context = tls_context(ca_file)
        self._context.sslsocket_class = _within_allowance(allowance)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use the one context."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)

    def cert_verify(self, conn: HTTPSConnectionPool, *args: Any) -> None:
        """Take over the client's certificate, but not certifi's authorities."""
        super().cert_verify(conn, *args)
        conn.ca_certs = conn.ca_cert_dir = None


def _within_allowance(allowance: _Allowance) -> type[ssl.SSLSocket]:
    """A TLS connection on which each step gets only what is left of the whole call.

    The time-outs of requests start anew with each byte, and it reads whatever comes.
    """

    class Bounded(ssl.SSLSocket):
        def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:  # noqa: ANN401 - as inherited
            self.settimeout(allowance.left())
            count = super().recv_into(buffer, nbytes, flags)
            allowance.take(count)
            return count

        def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 - as inherited
            self.settimeout(allowance.left())
            return super().send(data, flags)

    return Bounded


class _Clixml(Serializer):
    """Reads PowerShell's objects by their form (an ErrorRecord alone by its name), and refuses what is not whole.

    pypsrp goes by the names of types, hands on a container of a type that it does not know, and XML that is not well
    formed, as text, and passes over all but one kind of list.
    """

    def deserialize(self, element: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - XML, and whatever it holds
        """The value of an element, or of its text. Raises SerializationError, and more of pypsrp."""
        if isinstance(element, str) and len(element) > _MOST_CHARACTERS:
            raise _OverLimitError(f"an object has more than {_MOST_CHARACTERS} characters")
        if isinstance(element, str) and "<!DOCTYPE" in element:
            raise SerializationError("an object has a document type declaration")
        value = super().deserialize(element, *args, **kwargs)
        if value is element:
            raise SerializationError("half an object came")
        return value

    def _get_types_from_obj(self, element: Any) -> list[str]:  # noqa: ANN401 - XML
        types = super()._get_types_from_obj(element)
        for each in element:
            if each.tag in {"LST", "IE", "QUE", "STK"}:
                each.tag = "LST"
                return ["System.Array"]
            if each.tag == "DCT":
                return ["System.Collections.Hashtable"]
        return [each for each in types if each == "System.Management.Automation.ErrorRecord"] or ["System.Object"]


def _arguments(parameters: Mapping[str, Argument]) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}


def _bounded(pipeline: Pipeline) -> None:
    """Raises _OverLimitError where it wrote more, errors, warnings, progress and the like included, than is taken."""
    if sum(map(len, (pipeline.output, *vars(pipeline.streams).values()))) > MOST_OBJECTS:
        raise _OverLimitError(f"its answer has more than {MOST_OBJECTS} objects")


def _result(pipeline: Pipeline) -> CmdletResult:
    if pipeline.runspace_pool._fragmenter.incoming_buffer:  # noqa: SLF001 - nothing else shows it
        raise SerializationError("it ended in the middle of an object")
    errors = tuple(map(_error, pipeline.streams.error))
    if pipeline.state == PSInvocationState.FAILED and not errors:
        errors = (ErrorRecord(message="The pipeline failed without a word."),)
    return CmdletResult(objects=tuple(map(_Plain().properties, pipeline.output)), errors=errors)


def _error(record: ErrorRecordMessage) -> ErrorRecord:
    try:
        category = ErrorCategory(record.category or 0).name
    except ValueError:
        category = str(record.category)
    return ErrorRecord(
        message=str(record),
        error_id=record.fq_error or "",
        category=category,
        exceptions=tuple(islice(_exceptions(record.exception), _MOST_CAUSES)),
    )


def _exceptions(exception: object) -> Iterator[str]:
    """The types of an exception and of what caused it, the outermost first."""
    while isinstance(exception, GenericComplexObject):
        yield from exception.types[:1]
        exception = exception.adapted_properties.get("InnerException")


class _Plain:
    """Makes plain values of the objects of one call."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def properties(self, found: object) -> Mapping[str, object]:
        plain = self._value(found)
        return plain if isinstance(plain, dict) else {"": plain}

    def _value(self, value: object) -> object:
        self._left -= 1
        if self._left < 0:
            raise _OverLimitError(f"its answer has more than {_MOST_VALUES} values")
        if isinstance(value, str):
            return instant(value) or value
        if value is None or isinstance(value, (bool, int, bytes, datetime)):
            return value
        if isinstance(value, dict):
            return {str(name): self._value(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._value(each) for each in value]
        return self._object(value) if isinstance(value, GenericComplexObject) else str(value)

    def _object(self, value: GenericComplexObject) -> object:
        properties = value.adapted_properties | value.extended_properties
        if "System.Enum" in value.types:
            return value.to_string
        if value.property_sets and not value.adapted_properties:  # a bare value that the server decorated
            return self._value(value.property_sets[0])
        return self._value(properties) if properties else value.to_string


def _certainly_not_sent(error: Exception) -> bool:
    """Whether the command cannot have reached a shell: no connection, no sign-in, no rights, no such shell."""
    if isinstance(error, (AuthenticationError, ConnectTimeout)):
        return True
    if isinstance(error, WSManFaultError):
        return error.code in {_ACCESS_DENIED, _NO_SUCH_SHELL}
    return isinstance(error, NotConnected) and isinstance(_reason(error), NewConnectionError)


def _remedy(connection: WinRm, error: Exception) -> str:
    """What was wrong before anything was asked, with the setting or the service to look at."""
    cause = _cause(error)
    if isinstance(error, _OverLimitError):
        return f"{cause}. Check that host and port are WinRM's, and how DNS and the domain controllers answer."
    if isinstance(error, UnicodeEncodeError) and connection.auth is WinRmAuth.BASIC:
        return "username or password has a character that Basic cannot carry. Set auth to negotiate or kerberos."
    if isinstance(error, SSLError):
        return f"TLS failed ({cause}). Check host, ca_file and, where it is used, client_certificate."
    if isinstance(_reason(error), NameResolutionError):
        return f"{cause}. Check DNS on this machine, and host."
    if isinstance(error, (NotConnected, TimeoutError, ProxyError)) or type(error).__name__ == "ReadTimeout":
        return f"no answer ({cause}). Check host and port, that WinRM listens for HTTPS there, and the firewall."
    if isinstance(error, (AuthenticationError, SpnegoError)):
        return f"sign-in by {connection.auth} was refused ({cause}). {_SIGN_IN[connection.auth]}"
    if isinstance(error, TooManyRedirects):
        return "it answered with a redirect, which is not followed. Check host and port."
    if isinstance(error, (WSManFaultError, WinRMTransportError)):
        return (
            f"WinRM opened no session ({cause}). Check that configuration_name {connection.configuration_name!r} "
            "exists there and that the account may use it."
        )
    return f"no session ({cause}). Check the connection's settings, ca_file, client_certificate and client_key first."


_SIGN_IN: Mapping[WinRmAuth, str] = {
    WinRmAuth.BASIC: "Check username and password, and that WinRM allows Basic.",
    WinRmAuth.NEGOTIATE: "Check username and password.",
    WinRmAuth.KERBEROS: "Check username and password or the ticket cache, the clocks, and that host is the name in AD.",
    WinRmAuth.CERTIFICATE: "Check client_certificate, and that WinRM maps it to an account.",
}


def _reason(error: BaseException) -> object:
    inner = error.args[0] if error.args else error
    return getattr(inner, "reason", inner)


def _cause(error: BaseException) -> str:
    """In a few words; requests and urllib3 would tell of their own objects."""
    if isinstance(error, (WSManFaultError, WinRMTransportError)):
        return one_line(error.message)
    reason = _reason(error)
    if isinstance(reason, NameResolutionError):
        return "the name cannot be resolved"
    if isinstance(reason, ConnectTimeoutError) and not isinstance(reason, NewConnectionError):
        return "no connection within connect_timeout"
    if isinstance(reason, ReadTimeoutError):
        return "it took longer than operation_timeout"
    system = _system_error(reason)
    if isinstance(system, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {one_line(system.verify_message).rstrip('.')}"
    if system is not None and system.strerror and not isinstance(system, ssl.SSLError):
        return one_line(system.strerror)
    return one_line(reason) or type(error).__name__


def _system_error(reason: object) -> OSError | None:
    """What the system, or TLS, said of the connection: inside of what urllib3 raises, or its cause."""
    inside = (reason, *reason.args, reason.__cause__) if isinstance(reason, BaseException) else ()
    return next((each for each in inside if isinstance(each, OSError)), None)
