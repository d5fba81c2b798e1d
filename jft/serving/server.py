"""The server of the application: uvicorn, with bounds on how long a client may take to ask and to read the answer."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn  # pyright: ignore[reportMissingImports]
from uvicorn.protocols.http.h11_impl import H11Protocol  # pyright: ignore[reportMissingImports]

from jft.serving.limits import Limits

_LEAVING = 10  # seconds that requests have to be answered when the server is stopped


class _Protocol(H11Protocol):
    """One connection, closed if no request comes in time, or its answer is not read; uvicorn would wait for ever.

    Attributes:
      limits: whose `head` and `sending` are kept.
    """

    limits = Limits()
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._timer, self._stalled):
            if timer:
                timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._arm()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.limits.sending, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        unread = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self.limits.sending if unread else self.limits.head, self._late)

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0: any that is free. ValueError if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise ValueError(f"--host {host} --port {port}: {error.strerror or error}: give others.") from None
    return found


def server_of(asgi: Any, limits: Limits, ready: Callable[[], None]) -> uvicorn.Server:
    """The server of an application, which calls `ready` when it listens."""
    config = uvicorn.Config(
        asgi,
        http=type("Protocol", (_Protocol,), {"limits": limits}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=_LEAVING,
    )
    return _Server(config, ready)


def serve(asgi: Any, at: socket.socket, limits: Limits, ready: Callable[[], None]) -> None:
    """Serves at a bound socket until SIGTERM or Ctrl-C; what is being answered then is answered first."""
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has stopped
        signal.signal(number, lambda *_: None)
    server_of(asgi, limits, ready).run([at])
