"""How a simulated PowerShell calls a cmdlet: parameters by name and type, and errors where they do not fit.

Types, aliases and errors are those of Windows PowerShell's parameter binder, as far as a caller of cmdlets meets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from evidence_service.demo.fas_server import CmdletError, SimulatedFas


class Word(str):
    """A member of an enumeration, which travels with its number."""

    __slots__ = ()


class Guid(str):
    """A GUID, which travels as one."""

    __slots__ = ()


PsObject = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One cmdlet called by `account` on `machine`; `arguments` are bound: names as documented, types as declared."""

    machine: SimulatedFas
    servers: Mapping[str, SimulatedFas]
    account: str
    now: datetime
    arguments: Mapping[str, object]

    @property
    def target(self) -> SimulatedFas:
        """The FAS server that -Address names. Raises CmdletError for one that this farm does not have."""
        address = self.text("Address")
        if not address or address.casefold() == "localhost":
            return self.machine
        target = self.servers.get(address.casefold())
        if target is None:
            raise CmdletError(f"Unknown server: {address}", "UnknownServer", "ObjectNotFound")
        if target.unreachable:
            message = f"There was no endpoint listening at http://{target.name}/ that could accept the message."
            raise CmdletError(message, "EndpointNotFound", "ConnectionError")
        return target

    def text(self, name: str, default: str = "") -> str:
        """A string argument."""
        value = self.arguments.get(name)
        return default if value is None else str(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A Boolean or switch argument."""
        return bool(self.arguments.get(name, default))

    def number(self, name: str, default: int) -> int:
        """A number; what is below 1 is refused, as where the parameter has a range."""
        value = self.arguments.get(name, default)
        if not isinstance(value, int) or (value < 1 and name in self.arguments):
            message = f"Cannot validate argument on parameter '{name}'."
            raise CmdletError(message, "ParameterArgumentValidationError", "InvalidData")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list argument; None: not given."""
        value = self.arguments.get(name)
        return value if isinstance(value, tuple) else None


Handler = Callable[[Call], Iterable[PsObject]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A cmdlet: its parameters with their types, those that must be given, and the first release that has it."""

    handler: Handler
    parameters: Mapping[str, str]
    mandatory: tuple[str, ...] = ()
    since: str = "7.17"
    administers: bool = True


STANDARD = {"Address": "String", "UserName": "String", "Password": "String"}
"""What nearly every cmdlet of FAS takes."""
_COMMON = frozenset({"erroraction", "warningaction", "verbose", "debug", "informationaction"})
_ALIASES = {"mstemplate": "CertificateTemplate"}


def run(cmdlets: Mapping[str, Spec], name: str, call: Call) -> tuple[PsObject, ...]:
    """Bind and run; no password is known here, so -UserName and -Password are refused.

    Raises CmdletError with what PowerShell or FAS would write.
    """
    spec = next((each for key, each in cmdlets.items() if key.casefold() == name.casefold()), None)
    if spec is None or not call.machine.since(spec.since):
        message = (
            f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program."
        )
        raise CmdletError(message, "CommandNotFoundException", "ObjectNotFound")
    bound = replace(call, arguments=_bind(name, _parameters(name, spec, call.machine), spec.mandatory, call.arguments))
    if bound.text("UserName") or bound.text("Password"):
        message = "The server has rejected the client credentials."
        raise CmdletError(message, "SecurityNegotiationException", "AuthenticationError")
    if spec.administers:
        target = bound.target
        if call.account.casefold() not in {each.casefold() for each in target.administrators}:
            target.administered(1, f"[{call.account}] is not a member of the Administrators group")
            raise CmdletError("Access is denied.", category="PermissionDenied")
    return tuple(spec.handler(bound))


def _parameters(name: str, spec: Spec, machine: SimulatedFas) -> dict[str, str]:
    parameters = {**spec.parameters}
    if name.casefold() == "get-fasauthorizationcertificate" and not machine.since("2003"):
        parameters["FullCertInfo"] = "Boolean"
    if name.casefold() == "remove-fasauthorizationcertificate" and not machine.since("1903"):
        del parameters["DeleteUserCerts"]
    return parameters


def _bind(
    cmdlet: str, parameters: Mapping[str, str], mandatory: tuple[str, ...], given: Mapping[str, object]
) -> dict[str, object]:
    known = {each.casefold(): each for each in parameters}
    type_name = "Citrix.Authentication.FederatedAuthenticationService." + cmdlet.replace("-", "") + "Command"
    bound: dict[str, object] = {}
    for raw, value in given.items():
        asked = raw.lstrip("-").rstrip(":")
        name = known.get(asked.casefold()) or known.get(_ALIASES.get(asked.casefold(), "").casefold())
        if name is not None:
            bound[name] = _convert(name, parameters[name], value, type_name)
        elif asked.casefold() not in _COMMON:
            raise CmdletError(
                f"A parameter cannot be found that matches parameter name '{asked}'.",
                f"NamedParameterNotFound,{type_name}",
                "InvalidArgument",
            )
    missing = [each for each in mandatory if bound.get(each) in (None, "", ())]
    if missing:
        raise CmdletError(
            f"Cannot process command because of one or more missing mandatory parameters: {' '.join(missing)}.",
            f"MissingMandatoryParameter,{type_name}",
            "InvalidArgument",
        )
    return bound


def _convert(name: str, wanted: str, value: object, type_name: str) -> object:
    if wanted == "Switch":
        return value is None or bool(value)
    if value is None and wanted != "String":
        message = f"Missing an argument for parameter '{name}'. Specify a parameter of type 'System.{wanted}'."
        raise CmdletError(message, f"MissingArgument,{type_name}", "InvalidArgument")
    if wanted == "String[]":
        return tuple(str(each) for each in value) if isinstance(value, list | tuple) else (str(value),)
    fits = {"Boolean": bool | int, "Int32": int, "Int64": int, "String": str | None}.get(wanted, object)
    if not isinstance(value, fits):
        if wanted == "String" and not isinstance(value, list | tuple | dict | bytes):
            return str(value)
        message = (
            f"Cannot process argument transformation on parameter '{name}'. "
            f'Cannot convert value "{value}" to type "System.{wanted}".'
        )
        raise CmdletError(message, f"ParameterArgumentTransformationError,{type_name}", "InvalidData")
    return bool(value) if wanted == "Boolean" else value
