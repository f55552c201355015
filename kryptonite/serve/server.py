"""Runs the service on a socket until it is told to stop."""

import logging
import socket

import uvicorn
from fastapi import FastAPI

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
    """
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
    uvicorn.Server(config).run(sockets=[listener])
