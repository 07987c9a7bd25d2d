"""Connections of httpcore on which each step gets only the time that is left of the whole, whatever drips.

The time-outs of httpcore start anew with each byte. The look-up of a name is not bounded; it ends by itself.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore


class TimedBackend(httpcore.NetworkBackend):
    """Connections of one exchange, which may take `seconds` from now on, and `connect_seconds` of them to connect."""

    def __init__(self, seconds: float, connect_seconds: float) -> None:
        """Begin now."""
        self._end = time.monotonic() + seconds
        self._connect = connect_seconds
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect."""
        limit = min(self.left(), self._connect)
        return _TimedStream(self._sockets.connect_tcp(host, port, limit, local_address, socket_options), self)

    def left(self) -> float:
        """Seconds; raises httpcore.ReadTimeout when none are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


class _TimedStream(httpcore.NetworkStream):
    """A connection under that deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: TimedBackend) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline rules
        """What has arrived."""
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline rules
        """Send all."""
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        """Give the socket back."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore.NetworkStream:
        """The connection inside TLS."""
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the interface says so
        """What the socket says of itself."""
        return self._stream.get_extra_info(info)
