"""Prints p50 and p99 of one launch through the compiled plug-in, and of one by a plain HTTPS call.

`python -m tests.bridge.measure`: mutual TLS on loopback, kept connections, each question with evidence of its own.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bridge.given import compile_plugin
from tests.bridge.test_service import enrol, launch, settings_of
from tests.web.listening import client_context

COUNT = 1000


def _plain(port: int, context: ssl.SSLContext, questions: list[dict[str, Any]]) -> list[float]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    times = []
    for number, members in enumerate(questions):
        body = json.dumps({"request_id": str(number), "upn": members["upn"], "evidence": members["evidence"]})
        began = time.perf_counter()
        connection.request("POST", "/v1/decisions", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        times.append((time.perf_counter() - began) * 1000)
        if answer["decision"] != "allow":
            raise SystemExit(f"not allowed: {answer}")
    connection.close()
    return sorted(times)


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        plugin = compile_plugin(directory / "plugin")
        enrolled = enrol(directory)
        with enrolled.serve() as it:
            questions = [launch() for _ in range(COUNT)]
            plain = _plain(it.port, client_context(enrolled.server, enrolled.fas1), [launch() for _ in range(COUNT)])
            settings = settings_of(enrolled, it)
            one = plugin.load(settings, questions, callers=1, count=COUNT)
            many = plugin.load(settings, questions, callers=64, count=4 * COUNT)
    sys.stdout.write(
        f"plain HTTPS      1 caller   p50 {plain[COUNT // 2]:.1f} ms  p99 {plain[COUNT * 99 // 100]:.1f} ms\n"
    )
    for callers, each in ((1, one), (64, many)):
        rate = each["asked"] / each["seconds"]
        sys.stdout.write(
            f"through the DLL  {callers} callers  p50 {each['p50_ms']:.1f} ms  p99 {each['p99_ms']:.1f} ms"
            f"  {rate:.0f}/s  failed {each['failed']}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
