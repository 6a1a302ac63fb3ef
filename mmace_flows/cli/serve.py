"""`mmace serve`: the table of materials and the campaigns as a page in the browser, and as REST."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.existing_database import existing_database
from mmace_flows.cli.signals import termination_interrupts

PORT = 8321


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("serve")(serve)


def serve(
    host: Annotated[str, typer.Option(help="address to listen on; other than loopback needs a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0: a free one")] = PORT,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="file with the token that requests need, mode 600 [or MMACE_SERVE_TOKEN]"),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
) -> None:
    """Show the table of materials and the campaigns in the browser. Ctrl-C ends it. It only reads.

    REST is under /api, described by /openapi.json; docs/queries.md has examples.
    """
    from mmace.errors import UserError
    from mmace_flows.screening.access import Access, read_token

    try:
        import uvicorn

        from mmace_flows.screening.api import create_app
        from mmace_flows.screening.surface import warm_up
    except ImportError as error:
        raise UserError(f"mmace serve needs {error.name}: pip install 'mmace-flows[serve]'") from error
    from mmace_flows.execution.stores import open_stores

    access = Access.for_host(host, read_token(token_file))
    settings = existing_database(data_dir)
    listener = _listen(host, port)
    with termination_interrupts():  # uvicorn, when it has finished, sends itself the signal that ended it
        stores = open_stores(settings)
        application = create_app(lambda: stores.collection("anisotropy"), settings, access)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}/"
        typer.echo(f"{url}  (Ctrl-C ends it{'; asks for the token' if access.token else ''})")
        if open_browser:
            import webbrowser

            threading.Timer(0.5, webbrowser.open, [url]).start()
        threading.Thread(target=warm_up, daemon=True).start()
        config = uvicorn.Config(application, log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError that names the option at fault."""
    from mmace.errors import UserError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: no such address; 127.0.0.1 is this machine alone") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UserError(f"--port {port}: cannot listen on {host} ({error.strerror}); --port 0 finds one") from error
    return listener
