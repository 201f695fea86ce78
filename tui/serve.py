"""`softtune serve`: the app in a browser, through textual-serve (an optional extra). Each tab is an app of its own.

Whoever reaches the port can train, read and write here, so it listens on this machine alone unless told otherwise, and
only pages that it served itself may open a connection: any web page can address localhost.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.contract.errors import EXIT_FAILED, EXIT_USAGE, UsageError

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware
    from textual_serve.server import Server

LOCAL = ("localhost", "127.0.0.1", "[::1]")


def serve(arguments: Sequence[str]) -> int:
    """Serve until interrupted; gives the exit status."""
    options = parse(arguments)
    try:
        server = make_server(options)
    except UsageError as error:
        print(f"softtune: {error}", file=sys.stderr)
        return error.exit_status
    print(f"softtune is at {server.public_url} (ctrl+c ends the server; an engine at work goes on)", file=sys.stderr)
    if options.host not in ("localhost", "127.0.0.1", "::1"):
        print("softtune: whoever reaches this port can use it as you: put a login in front of it", file=sys.stderr)
    try:
        server.serve()
    except OSError as error:
        print(f"softtune: {options.host}:{options.port} cannot be served: {error.strerror}\n  choose another --port",
              file=sys.stderr)
        return EXIT_FAILED
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `softtune serve`."""
    parser = argparse.ArgumentParser("softtune serve", description="the app in a browser")
    parser.add_argument("config", nargs="?", metavar="CONFIG")
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--host", default="localhost", help="what to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--public-url", metavar="URL", help="how browsers reach it, where that is not HOST:PORT")
    options = parser.parse_args(arguments)
    if not 1 <= options.port <= 65535:
        parser.exit(EXIT_USAGE, f"softtune: --port {options.port} is not between 1 and 65535\n")
    return options


def make_server(options: argparse.Namespace) -> Server:
    """The server for some options; raises UsageError where the extra is not installed."""
    try:
        from textual_serve.server import Server
    except ImportError:
        raise UsageError("softtune serve needs the package textual-serve", "pip install 'softtune[serve]'") from None

    class OwnPagesOnly(Server):
        """Refuses connections that pages of other sites open."""

        def initialize_logging(self) -> None:
            """Nothing to say about each request."""

        async def on_startup(self, app: web.Application) -> None:
            """The command says where it is."""

        async def _make_app(self) -> web.Application:
            app = await super()._make_app()
            app.middlewares.append(refuse_others(allowed_origins(self.public_url)))
            return app

    app = [argument for argument in (options.config, "--demo" if options.demo else None) if argument]
    command = shlex.join([sys.executable, "-P", "-m", "tui", *app])
    return OwnPagesOnly(command, host=options.host, port=options.port, title="softtune", public_url=options.public_url)


def allowed_origins(public_url: str) -> frozenset[str]:
    """Hosts with ports that the address may be written as: all names of this machine where it is one of them."""
    parts = urlsplit(public_url)
    names = LOCAL if parts.hostname in ("localhost", "127.0.0.1", "::1") else (parts.hostname or "",)
    port = f":{parts.port}" if parts.port else ""
    return frozenset(f"{name}{port}" for name in names)


def refuse_others(allowed: frozenset[str]) -> Middleware:
    """A middleware that answers only requests for these hosts, by pages of these hosts."""

    from aiohttp import web

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if request.host not in allowed or origin is not None and urlsplit(origin).netloc not in allowed:
            raise web.HTTPForbidden(text=f"softtune answers only to {', '.join(sorted(allowed))}\n")
        return await handler(request)

    return check
