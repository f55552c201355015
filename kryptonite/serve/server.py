"""Runs the service on a socket until it is told to stop."""

import logging
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from kryptonite.core.errors import ServiceStartError

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Opens the service's socket.

    Args:
        host: Name or address to listen on.
        port: 0 picks a free one.

    Raises:
        OSError: The address is taken, forbidden or unknown.
    """
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def run_server(app: FastAPI, listener: socket.socket, grace: float) -> None:
    """Serves until SIGTERM or Ctrl-C; returns when every request that had begun is answered.

    Whatever handled the signal before gets it afterwards.

    Args:
        app: The application.
        listener: An open socket.
        grace: Seconds that requests may take once the service is told to stop.

    Raises:
        ServiceStartError: The service could not start.
    """
    _allow_all_connections()
    # The parser of forms logs bytes of what it cannot read.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    # Uvicorn's log of requests would hold addresses of clients.
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=round(grace),
    )
    server = _Server(config)
    try:
        server.run(sockets=[listener])
    except SystemExit:  # of a start that failed; older versions of uvicorn return
        if server.started:
            raise
    if not server.started:
        failure = getattr(app.state, "failure", None)
        reason = f": {type(failure).__name__}: {failure}" if failure else ""
        raise ServiceStartError(f"the service could not start{reason}") from failure


class _Server(uvicorn.Server):
    """Leaves it to `run_server` to say why the start failed."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts without uvicorn's log of the error."""
        log = logging.getLogger("uvicorn.error")
        level = log.level
        log.setLevel(logging.CRITICAL)
        await super().startup(sockets)
        log.setLevel(level)


def _allow_all_connections() -> None:
    """Raises the soft limit on open files, which connections count as, to the hard one.

    Under the usual 1024 as many silent connections would shut everybody else out.
    """
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a limit of its own below an infinite one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
