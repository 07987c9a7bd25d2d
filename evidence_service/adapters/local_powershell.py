"""Cmdlets called in Windows PowerShell 5.1 on this machine, one process for each.

The process runs one constant script. What to call goes to it as JSON on its standard input, and what came of it comes
back as one line of base64 on its standard output. One process for each cmdlet, because killing it then ends exactly
that call and leaves no half-broken session behind; the second that each start takes does not matter in a renewal.

The script has been exercised here only in its protocol, by a stand-in that speaks it: PowerShell 5.1 with FAS's snap-in
runs on Windows alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Self

from evidence_service.adapters.powershell import MOST_OBJECTS, CmdletResult, ErrorRecord, allowed, instant, one_line
from evidence_service.renewal.cmdlets import CMDLETS, SNAPIN, Argument, Cmdlet
from evidence_service.renewal.farm import Local
from evidence_service.renewal.ports import FasAnswerUnknown, FasUnreachable

_AFTER_KILL_SECONDS = 2.0

# No value of a call is ever part of this text: names and parameters are data that it reads from $input, which holds
# the lines of the standard input. The name is looked up in the list and the parameters are splatted.
_SCRIPT = """
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$call = ConvertFrom-Json -InputObject (@($input) -join '')
$allowed = @(ALLOWED)
$result = @{ objects = @(); errors = @(); unloaded = $null }

function Get-Plain($value, $depth) {
    if ($null -eq $value) { return $null }
    if ($value -is [string] -or $value -is [char] -or $value -is [guid] -or $value -is [version] -or
        $value -is [enum] -or $value -is [uri]) { return $value.ToString() }
    if ($value -is [bool]) { return [bool]$value }
    if ($value -is [DateTimeOffset]) { $value = $value.UtcDateTime }
    if ($value -is [datetime]) {
        if ($value.Kind -eq 'Unspecified') { $value = [datetime]::SpecifyKind($value, 'Utc') }
        $utc = $value.ToUniversalTime().ToString('o', [Globalization.CultureInfo]::InvariantCulture)
        return @{ '#instant' = $utc }
    }
    if ($value -is [byte[]]) { return @{ '#bytes' = [Convert]::ToBase64String($value) } }
    if ($value -is [int] -or $value -is [long] -or $value -is [int16] -or $value -is [byte] -or
        $value -is [uint16] -or $value -is [uint32]) { return [long]$value }
    if ($depth -le 0 -or $value -is [valuetype]) { return [string]$value }
    if ($value -is [Collections.IDictionary]) {
        $map = @{}
        foreach ($key in $value.Keys) { $map[[string]$key] = Get-Plain $value[$key] ($depth - 1) }
        return $map
    }
    if ($value -is [Collections.IEnumerable]) {
        $list = New-Object Collections.ArrayList
        foreach ($each in $value) { [void]$list.Add((Get-Plain $each ($depth - 1))) }
        return @{ '#list' = $list }
    }
    $map = @{}
    foreach ($property in $value.PSObject.Properties) {
        try { $map[$property.Name] = Get-Plain $property.Value ($depth - 1) } catch { $map[$property.Name] = $null }
    }
    return $map
}

function Get-PlainError($record) {
    $exceptions = New-Object Collections.ArrayList
    for ($e = $record.Exception; $null -ne $e; $e = $e.InnerException) { [void]$exceptions.Add($e.GetType().FullName) }
    return @{
        message = [string]$record
        id = [string]$record.FullyQualifiedErrorId
        category = [string]$record.CategoryInfo.Category
        exceptions = $exceptions
    }
}

$parameters = @{}
foreach ($each in @($call.parameters)) {
    if ($each.type -eq 'bytes') { $parameters[$each.name] = [Convert]::FromBase64String($each.value) }
    elseif ($each.type -eq 'strings') { $parameters[$each.name] = [string[]]@($each.value) }
    elseif ($each.type -eq 'int') { $parameters[$each.name] = [int]$each.value }
    elseif ($each.type -eq 'bool') { $parameters[$each.name] = [bool]$each.value }
    else { $parameters[$each.name] = [string]$each.value }
}

$ready = $allowed -contains $call.name
if (-not $ready) { $result.unloaded = 'The cmdlet is not in the list of this script.' }
if ($ready -and $call.name -like '*-Fas*') {
    try {
        if (-not (Get-PSSnapin -Name 'SNAPIN' -ErrorAction SilentlyContinue)) { Add-PSSnapin -Name 'SNAPIN' }
    } catch {
        $ready = $false
        $result.unloaded = [string]$_
    }
}
if ($ready) {
    $ErrorActionPreference = 'Continue'
    $name = $call.name
    $written = New-Object Collections.ArrayList
    try {
        & $name @parameters 2>&1 3>$null | ForEach-Object {
            if ($written.Count -ge MOST) { [Console]::Error.WriteLine('It wrote more than MOST objects.'); exit 1 }
            [void]$written.Add($_)
        }
    } catch { [void]$written.Add($_) }
    foreach ($each in $written) {
        if ($each -is [Management.Automation.ErrorRecord]) { $result.errors += Get-PlainError $each }
        else {
            $plain = Get-Plain $each 4
            if ($plain -isnot [hashtable]) { $plain = @{ '#value' = $plain } }
            $result.objects += $plain
        }
    }
}
$json = ConvertTo-Json -InputObject $result -Depth 12 -Compress
[Console]::Out.WriteLine([Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)))
"""
SCRIPT = (
    _SCRIPT.replace("ALLOWED", ", ".join(f"'{name}'" for name in sorted(CMDLETS)))
    .replace("SNAPIN", SNAPIN)
    .replace("MOST", str(MOST_OBJECTS))
)
"""The one script, whole: the same for every call, on every machine."""
ARGUMENTS = (
    "-NoProfile",
    "-NonInteractive",
    "-NoLogo",
    "-EncodedCommand",
    base64.b64encode(SCRIPT.encode("utf-16-le")).decode(),
)
"""What the program is started with: the same for every call."""


class LocalPowerShell:
    """Windows PowerShell here, run elevated; implements `evidence_service.adapters.powershell.PowerShell`."""

    def __init__(self, connection: Local) -> None:
        """Start nothing yet."""
        self._connection = connection

    def __enter__(self) -> Self:
        """Look for the program. Raises FasUnreachable."""
        if shutil.which(self._connection.program) is None:
            raise self._no_program()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave nothing behind: every call has ended its process."""

    def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
        """Call one cmdlet; `operation_seconds` bound it. Raises FasUnreachable, FasAnswerUnknown, ValueError."""
        allowed(cmdlet)
        answer = _document(cmdlet, self._run(cmdlet))
        if answer.get("unloaded") is not None:
            raise FasUnreachable(
                f"{self._connection.program}: {cmdlet.name} was not called ({one_line(answer['unloaded'])}). Install "
                "FAS's PowerShell snap-in on this machine, and use 64-bit Windows PowerShell 5.1."
            )
        try:
            return _result(answer)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise FasAnswerUnknown(f"{cmdlet.name} gave an answer that cannot be read: {one_line(error)}") from error

    def _run(self, cmdlet: Cmdlet) -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 - the configured program, with constant arguments
                [self._connection.program, *ARGUMENTS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise self._no_program() from error
        with process:
            try:
                written, complaint = process.communicate(_request(cmdlet), self._connection.operation_seconds)
            except subprocess.TimeoutExpired as error:
                _kill(process)
                raise FasAnswerUnknown(f"{cmdlet.name} took longer than operation_timeout and was ended.") from error
            except BaseException:
                _kill(process)
                raise
        if process.returncode != 0:
            said = one_line(complaint.decode(errors="replace")) or f"exit code {process.returncode}"
            raise FasAnswerUnknown(f"{cmdlet.name} was begun, and {self._connection.program} failed: {said}")
        return written

    def _no_program(self) -> FasUnreachable:
        return FasUnreachable(
            f"{self._connection.program} cannot be started. Set `program` to Windows PowerShell 5.1 on this machine, "
            "or reach the server by WinRM."
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.communicate(timeout=_AFTER_KILL_SECONDS)
    except subprocess.TimeoutExpired:  # something that it started holds the pipes
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _request(cmdlet: Cmdlet) -> bytes:
    parameters = [{"name": name, **_typed(value)} for name, value in cmdlet.parameters.items()]
    return json.dumps({"name": cmdlet.name, "parameters": parameters}).encode("ascii") + b"\n"


def _typed(value: Argument) -> dict[str, object]:
    if isinstance(value, bool):
        return {"type": "bool", "value": value}
    if isinstance(value, int):
        return {"type": "int", "value": value}
    if isinstance(value, bytes):
        return {"type": "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return {"type": "strings", "value": list(value)}
    return {"type": "string", "value": value}


def _document(cmdlet: Cmdlet, written: bytes) -> dict[str, Any]:
    try:
        # What the snap-in or a cmdlet wrote to the console stands before it.
        document = json.loads(base64.b64decode(written.strip().rpartition(b"\n")[2], validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise FasAnswerUnknown(f"{cmdlet.name} gave no whole answer: {one_line(error)}") from error
    if not isinstance(document, dict):
        raise FasAnswerUnknown(f"{cmdlet.name} gave an answer that cannot be read.")
    return document


def _result(answer: Mapping[str, Any]) -> CmdletResult:
    return CmdletResult(
        objects=tuple(map(_properties, answer["objects"])),
        errors=tuple(
            ErrorRecord(
                message=str(each["message"]),
                error_id=str(each["id"]),
                category=str(each["category"]),
                exceptions=tuple(map(str, each["exceptions"])),
            )
            for each in answer["errors"]
        ),
    )


def _properties(found: Mapping[str, object]) -> Mapping[str, object]:
    if "#value" in found:
        return {"": _plain(found["#value"])}
    plain = _plain(found)
    return plain if isinstance(plain, dict) else {"": plain}


def _plain(value: Any) -> object:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return value
    if "#instant" in value:
        return instant(value["#instant"])
    if "#bytes" in value:
        return base64.b64decode(value["#bytes"])
    if "#list" in value:
        return [_plain(each) for each in value["#list"]]
    return {name: _plain(each) for name, each in value.items()}
