"""The ways to a simulated FAS server: in process, by WinRM over real HTTPS, and by a program on this machine."""

from __future__ import annotations

import base64
import contextlib
import json
import socketserver
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from evidence_service.adapters.fas import PowerShellFas, open_fas, open_powershell
from evidence_service.adapters.local_powershell import ARGUMENTS
from evidence_service.adapters.powershell import CmdletResult, PowerShell
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.winrm import WinRmServer
from evidence_service.renewal.cmdlets import Cmdlet
from evidence_service.renewal.farm import FasServer, Local, WinRm
from evidence_service.renewal.model import RenewalPolicy
from evidence_service.renewal.ports import Fas, FasUnreachable

POLICY = RenewalPolicy()


class Transport(ABC):
    """One way to the servers of a farm."""

    @abstractmethod
    def powershell(self, name: str, operation_seconds: float = 180.0) -> PowerShell:
        """A session on a server."""

    def fas(self, name: str, operation_seconds: float = 180.0) -> Fas:
        """A server, as the worker would use it."""
        return PowerShellFas(server(name, Local()), lambda: self.powershell(name, operation_seconds))


def server(name: str, connection: WinRm | Local) -> FasServer:
    """A configured server."""
    return FasServer(name=name, policy=POLICY, connection=connection)


class InProcess(Transport):
    """No transport at all."""

    def __init__(self, farm: SimulatedFarm) -> None:
        """To this farm."""
        self._farm = farm

    def powershell(self, name: str, operation_seconds: float = 180.0) -> PowerShell:
        """A session on a server."""
        return self._farm.powershell(name, operation_seconds=operation_seconds)


class OverWinRm(Transport):
    """pypsrp to a WinRM of the farm."""

    def __init__(self, winrm: WinRmServer) -> None:
        """To this farm's WinRM."""
        self._winrm = winrm

    def powershell(self, name: str, operation_seconds: float = 180.0) -> PowerShell:
        """A session on a server."""
        return open_powershell(self._winrm.connection(name, operation_seconds=operation_seconds))

    def fas(self, name: str, operation_seconds: float = 180.0) -> Fas:
        """A server, opened as the worker opens it."""
        return open_fas(server(name, self._winrm.connection(name, operation_seconds=operation_seconds)))


class OnThisMachine(Transport):
    """A program in the place of powershell.exe that asks the farm, over a socket, for what it should answer."""

    def __init__(self, standin: Path) -> None:
        """With the programs of `standing_in`, one for each server."""
        self._standin = standin

    def powershell(self, name: str, operation_seconds: float = 180.0) -> PowerShell:
        """A session on a server."""
        program = str(self._standin / name)
        return open_powershell(Local(program=program, operation_seconds=operation_seconds))


_PROGRAM = """#!{python} -IS
import socket, sys
asking = socket.create_connection(("127.0.0.1", {port}))
asking.sendall(sys.argv[-1].encode() + b" {name} " + sys.stdin.buffer.read())
asking.shutdown(socket.SHUT_WR)
answer = b""
while part := asking.recv(65536):
    answer += part
if not answer:
    sys.exit("the process was ended")
sys.stdout.write(answer.decode())
"""


@contextmanager
def standing_in(farm: SimulatedFarm, directory: Path) -> Iterator[OnThisMachine]:
    """Programs named as the servers; they accept only the constant script."""
    with _Answering(farm) as answering:
        for each in farm.servers:
            program = directory / each.name
            text = _PROGRAM.format(python=sys.executable, port=answering.server_address[1], name=each.name)
            program.write_text(text, encoding="utf-8")
            program.chmod(0o700)
        thread = threading.Thread(target=answering.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield OnThisMachine(directory)
        answering.ended.set()
        answering.shutdown()
        thread.join()


class _Answering(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, farm: SimulatedFarm) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.farm, self.ended = farm, threading.Event()


class _Asked(socketserver.StreamRequestHandler):
    server: _Answering

    def handle(self) -> None:
        script, name, request = self.rfile.read().split(b" ", 2)
        assert script.decode() == ARGUMENTS[-1]
        call = json.loads(request)
        parameters = {each["name"]: _given(each["type"], each["value"]) for each in call["parameters"]}
        farm, target = self.server.farm, self.server.farm.server(name.decode())
        cmdlet = Cmdlet(name=call["name"], parameters=parameters)
        trouble = farm.trouble(target, cmdlet.name)
        if trouble.seconds:
            farm.postpone(target, cmdlet, "CORP\\svc-fas-renewal", trouble.seconds)
            self.server.ended.wait(trouble.seconds)
            return
        try:
            with farm.powershell(target.name) as session:
                answer = _written(session.invoke(cmdlet))
        except FasUnreachable as error:
            answer = {"objects": [], "errors": [], "unloaded": str(error)}
        if not trouble.lost:
            with contextlib.suppress(OSError):  # the program was killed meanwhile
                self.wfile.write(base64.b64encode(json.dumps(answer).encode()) + b"\r\n")


def _given(kind: str, value: object) -> str | bool | int | bytes | tuple[str, ...]:
    if kind == "bytes":
        return base64.b64decode(str(value))
    if isinstance(value, list):
        return tuple(map(str, value))
    assert isinstance(value, (str, bool, int))
    return value


def _written(result: CmdletResult) -> dict[str, object]:
    return {
        "objects": [{name: _plain(value) for name, value in each.items()} for each in result.objects],
        "errors": [
            {"message": e.message, "id": e.error_id, "category": e.category, "exceptions": list(e.exceptions)}
            for e in result.errors
        ],
        "unloaded": None,
    }


def _plain(value: object) -> object:
    """As the script writes values."""
    if isinstance(value, datetime):
        return {"#instant": value.strftime("%Y-%m-%dT%H:%M:%S.%f0Z")}
    if isinstance(value, bytes):
        return {"#bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return {"#list": [_plain(each) for each in value]}
    return value


def without_snapin(connection: WinRm) -> WinRm:
    """The same to a session configuration that loads the snap-in itself."""
    return replace(connection, load_snapin=False)
