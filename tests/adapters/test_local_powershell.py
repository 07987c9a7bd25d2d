from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from evidence_service.adapters.local_powershell import ARGUMENTS, SCRIPT, LocalPowerShell
from evidence_service.adapters.powershell import CmdletResult, ErrorRecord
from evidence_service.renewal.cmdlets import CMDLETS, Argument, Cmdlet
from evidence_service.renewal.farm import Local
from evidence_service.renewal.ports import FasAnswerUnknown, FasUnreachable

pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(sys.platform == "win32", reason="the program that stands in starts by its first line"),
]

READ = Cmdlet(name="Get-FasServer")


def program(directory: Path, body: str) -> Local:
    """A program in the place of powershell.exe."""
    path = directory / "powershell"
    path.write_text(f"#!{sys.executable} -IS\nimport json, os, sys, time\n{body}\n", encoding="utf-8")
    path.chmod(0o700)
    return Local(program=str(path), operation_seconds=5.0)


def answering(directory: Path, document: object) -> Local:
    """A program that answers with this."""
    line = base64.b64encode(json.dumps(document).encode()).decode()
    return program(directory, f"sys.stdin.read(); print({line!r})")


def invoked(connection: Local, cmdlet: Cmdlet = READ) -> CmdletResult:
    """One call."""
    with LocalPowerShell(connection) as session:
        return session.invoke(cmdlet)


def document(**changes: object) -> dict[str, object]:
    """An empty answer."""
    return {"objects": [], "errors": [], "unloaded": None} | changes


def test_the_script_is_one_constant_that_lists_what_may_be_called() -> None:
    """No call changes it, and it knows the same names as the service (promise 62)."""
    assert base64.b64decode(ARGUMENTS[-1]).decode("utf-16-le") == SCRIPT
    assert all(f"'{name}'" in SCRIPT for name in CMDLETS)
    assert "Invoke-Expression" not in SCRIPT


def test_what_is_called_goes_over_the_standard_input_only(tmp_path: Path) -> None:
    """Values are data there, in ASCII, with their types; the arguments are the same for every call."""
    seen = tmp_path / "seen"
    body = f"json.dump((sys.argv[1:], sys.stdin.read()), open({str(seen)!r}, 'w')); sys.exit(1)"
    values: Mapping[str, Argument] = {
        "Id": "é'; x",
        "DeleteUserCerts": False,
        "Count": 3,
        "Value": b"\x00\xff",
        "Names": ("a", "b"),
    }
    with pytest.raises(FasAnswerUnknown):
        invoked(program(tmp_path, body), Cmdlet(name="Remove-FasAuthorizationCertificate", parameters=values))
    arguments, text = json.loads(seen.read_text(encoding="utf-8"))
    assert tuple(arguments) == ARGUMENTS
    assert text.isascii()
    assert json.loads(text) == {
        "name": "Remove-FasAuthorizationCertificate",
        "parameters": [
            {"name": "Id", "type": "string", "value": "é'; x"},
            {"name": "DeleteUserCerts", "type": "bool", "value": False},
            {"name": "Count", "type": "int", "value": 3},
            {"name": "Value", "type": "bytes", "value": "AP8="},
            {"name": "Names", "type": "strings", "value": ["a", "b"]},
        ],
    }


def test_objects_and_errors_come_back(tmp_path: Path) -> None:
    """A bare value has no name; an error keeps its id and category."""
    answer = document(
        objects=[{"Address": "fas1", "Names": {"#list": ["a"]}, "Raw": {"#bytes": "AP8="}}, {"#value": "bare"}],
        errors=[{"message": "no", "id": "No,Citrix", "category": "PermissionDenied", "exceptions": ["A", "B"]}],
    )
    assert invoked(answering(tmp_path, answer)) == CmdletResult(
        objects=({"Address": "fas1", "Names": ["a"], "Raw": b"\x00\xff"}, {"": "bare"}),
        errors=(ErrorRecord(message="no", error_id="No,Citrix", category="PermissionDenied", exceptions=("A", "B")),),
    )


def test_what_is_written_to_the_console_before_the_answer_is_passed_over(tmp_path: Path) -> None:
    """A snap-in or a cmdlet may greet or warn there; it makes no answer unknown."""
    line = base64.b64encode(json.dumps(document(objects=[{"Address": "fas1"}])).encode()).decode()
    talking = program(tmp_path, f"sys.stdin.read(); print('WARNING: careful\\r'); print({line!r} + '\\r')")
    assert invoked(talking).objects == ({"Address": "fas1"},)


def test_a_machine_without_the_snapin_is_unreachable(tmp_path: Path) -> None:
    """The cmdlet was not called, and the line says what to install."""
    connection = answering(tmp_path, document(unloaded="No snap-ins have been registered"))
    with pytest.raises(FasUnreachable, match=r"No snap-ins have been registered.*Install FAS's PowerShell snap-in"):
        invoked(connection)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('Windows PowerShell')", "no whole answer"),
        ("import base64; print(base64.b64encode(b'[' * 100_000).decode())", "no whole answer"),
        ("print('e30')", "no whole answer"),
        ("print('W10=')", "cannot be read"),
        ("print('e30=')", "cannot be read"),
        ("pass", "no whole answer"),
        ("sys.exit('access denied')", "access denied"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
    ],
)
def test_an_answer_that_is_not_whole_is_unknown(body: str, said: str, tmp_path: Path) -> None:
    """The process had begun, so FAS may have done it (promise 46)."""
    with pytest.raises(FasAnswerUnknown, match=said):
        invoked(program(tmp_path, body))


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """It does not go on in the background, and its answer is unknown (promises 46 and 60)."""
    pid = tmp_path / "pid"
    slow = program(tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    with pytest.raises(FasAnswerUnknown, match="longer than operation_timeout and was ended"):
        invoked(Local(program=slow.program, operation_seconds=0.5))
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text(encoding="utf-8")), 0)


def test_a_cmdlet_outside_the_list_starts_nothing(tmp_path: Path) -> None:
    """It is refused before any process (promise 62)."""
    touched = tmp_path / "touched"
    connection = program(tmp_path, f"open({str(touched)!r}, 'w')")
    with pytest.raises(ValueError, match="is not a cmdlet that this service calls"):
        invoked(connection, Cmdlet(name="Invoke-Expression"))
    assert not touched.exists()
