"""Serve an app on this machine, or on a network when it has a token."""

import ipaddress
import socket

from dash import Dash
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from dashboard.guard import TOKEN


class Quiet(WSGIRequestHandler):
    """A handler that logs no requests: pages poll, and an address may hold the token."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing."""


def listen(app: Dash, *, host: str = "127.0.0.1", port: int = 8050) -> BaseWSGIServer:
    """Take a port (0: any free one) and return the server, whose `serve_forever()` serves.

    Raises:
        ValueError: the host is not this machine's loopback and the app was made without a token.
        OSError: the port is taken.
    """
    if not _is_loopback(host) and not app.server.config.get(TOKEN):
        raise ValueError(
            f"will not serve on {host} without a token, anyone there could use the model: pass "
            "token= to create_app, or serve on 127.0.0.1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Taken by ourselves: werkzeug would end the process when the port is in use.
    with socket.create_server((host, port), family=family) as taken:
        return make_server(
            host, port, app.server, threaded=True, request_handler=Quiet, fd=taken.fileno()
        )


def serve(app: Dash, *, host: str = "127.0.0.1", port: int = 8050) -> None:
    """Serve an app until interrupted; raises what `listen` raises."""
    with listen(app, host=host, port=port) as server:
        server.serve_forever()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
