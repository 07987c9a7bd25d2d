"""Where a person plays the CA manager while the demo runs: `fas-evidence demo ca` asks here, over a loopback port.

A file that only its owner may read holds the port and a key, made anew each time. A visit is one line of JSON each way.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Self, cast

from evidence_service.demo.fas_ca import ApprovalRefused, CaRequest, SimulatedCa
from evidence_service.demo.service import HOST, DemoFailed
from evidence_service.demo.winrm_identity import write_private

FILE = "demo-ca.json"
"""In the data directory of the demo."""
_VISIT_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_LONGEST = 1_000_000


class CaDesk:
    """The CA manager's desk; a context manager. `file` is there as long as it is open."""

    def __init__(self, ca: SimulatedCa, file: Path) -> None:
        """Listen. Raises OSError."""
        self._file = file
        self._server = _Desk(ca)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_SECONDS,), daemon=True)

    def __enter__(self) -> Self:
        """Open it. Raises OSError."""
        self._thread.start()
        told = {"port": self._server.server_address[1], "key": self._server.key}
        write_private(self._file, json.dumps(told).encode())
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Desk(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, ca: SimulatedCa) -> None:
        self.ca, self.key = ca, secrets.token_urlsafe(32)
        super().__init__((HOST, 0), _Visit)

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor who goes, or talks nonsense, is not the demo's concern."""


class _Visit(StreamRequestHandler):
    timeout = _VISIT_SECONDS

    def handle(self) -> None:
        desk = cast(_Desk, self.server)
        asked = json.loads(self.rfile.readline(_LONGEST))
        if compare_digest(str(asked["key"]).encode(), desk.key.encode()):
            self.wfile.write(json.dumps(_answer(desk.ca, asked)).encode() + b"\n")


def _answer(ca: SimulatedCa, asked: Mapping[str, object]) -> Mapping[str, object]:
    number, reason = asked.get("number"), asked.get("reason")
    try:
        if isinstance(number, int) and reason is None:
            ca.issue(number)
        elif isinstance(number, int):
            ca.deny(number, str(reason))
    except (ApprovalRefused, ValueError) as refusal:
        return {"refused": str(refusal)}
    return {"pending": [_row(each) for each in ca.pending]}


def _row(request: CaRequest) -> Mapping[str, object]:
    return {
        "number": request.number,
        "requester": request.requester,
        "template": request.template,
        "submitted": request.submitted.isoformat(),
    }


def ask_desk(data_dir: Path, number: int | None = None, reason: str | None = None) -> list[dict[str, object]]:
    """What waits at the CA of the demo that runs on this data directory, after `number` is decided if there is one.

    It is denied where there is a `reason`, else issued. Raises ApprovalRefused where the CA refuses, and DemoFailed
    where no demo runs there.
    """
    file = data_dir / FILE
    answer = b""
    with suppress(OSError, ValueError, KeyError, TypeError):  # no file, a file of something else, or nobody there
        told = json.loads(file.read_text(encoding="utf-8"))
        asked = {"key": told["key"], "number": number, "reason": reason}
        with socket.create_connection((HOST, told["port"]), timeout=_VISIT_SECONDS) as connection:
            connection.sendall(json.dumps(asked).encode() + b"\n")
            with connection.makefile("rb") as reader:
                answer = reader.readline()
    if not answer:
        raise DemoFailed(
            f"no running demo answers by {file}; start `fas-evidence demo` without --once, wait for the end of its "
            "story, and set FAS_EVIDENCE_CONFIG as it prints"
        )
    said: dict[str, list[dict[str, object]]] = json.loads(answer)
    if "refused" in said:
        raise ApprovalRefused(str(said["refused"]))
    return said["pending"]
