"""One connection to the database per process, embedded or the user's own. The only place that handles credentials."""

from __future__ import annotations

import atexit
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.execution.embedded import DATABASE, EmbeddedDatabase
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.server import ServerConfig
from mmace_flows.execution.settings import Settings, load_settings

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

# a server that is silent for longer is given up, and looked for again by those who are patient (`backoff`)
SILENT_MS: dict[str, Any] = {"serverSelectionTimeoutMS": 15_000, "connectTimeoutMS": 15_000, "socketTimeoutMS": 120_000}

LOOPBACK_MS = 5_000  # the embedded server is on this machine: it answers soon, or it is dead


class Unreachable(UserError):
    """The server does not answer: now, but perhaps later."""


@dataclass
class Connection:
    """A client and the database it works on."""

    settings: Settings
    client: MongoClient[dict[str, Any]]
    database: Database[dict[str, Any]]
    arguments: dict[str, Any]  # of MongoClient, with the password: never to be logged or stored
    embedded: EmbeddedDatabase | None  # None for a user's own server
    pid: int
    where: str  # the server's name in messages
    server_clock: tuple[datetime, float]  # the server's time, UTC, and time.monotonic() of this process at that moment

    def server_time(self) -> datetime:
        """Time by the server's clock, UTC, without asking it again."""
        then, at = self.server_clock
        return then + timedelta(seconds=time.monotonic() - at)

    def close(self) -> None:
        """Close the client and leave the embedded server."""
        self.client.close()
        if self.embedded is not None:
            self.embedded.leave()


_connections: dict[tuple[int, str, str], Connection] = {}


def connect(settings: Settings | None = None) -> Connection:
    """The connection of this process for these settings (default: MMACE_DATA_DIR / MMACE_DATABASE), made on first use.

    Raises UserError if the server cannot be reached.
    """
    settings = settings or load_settings()
    # a forked child must not use its parent's sockets, hence the process id
    key = (os.getpid(), str(settings.data_dir), str(settings.database))
    if key not in _connections:
        _connections[key] = _open(settings)
    return _connections[key]


def on_this_machine(connection: Connection, process: ProcessName) -> bool:
    """Whether a process runs here, so that it can be looked for.

    Users of the embedded server all do, even if this machine had another name when they started.
    """
    return connection.embedded is not None or process.host == ProcessName.this().host


def require_writing(connection: Connection) -> None:
    """Raise UserError for a user who may only read the database."""
    found = connection.database.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    name = connection.database.name
    may = [
        one
        for one in found.get("authenticatedUserPrivileges", [])
        if "insert" in one["actions"] and one["resource"].get("db", "") in ("", name)
    ]
    if found.get("authenticatedUsers") and not may:
        user = found["authenticatedUsers"][0]["user"]
        raise UserError(f"{connection.where}: user '{user}' may only read the database '{name}'")


def disconnect() -> None:
    """Close all connections of this process; the embedded server stops if nobody else uses it."""
    for key in [key for key in _connections if key[0] == os.getpid()]:
        _connections.pop(key).close()


def leave_servers() -> None:
    """Leave the embedded server without closing clients: for a process that is about to be killed."""
    for key, connection in list(_connections.items()):
        if key[0] == os.getpid() and connection.embedded is not None:
            connection.embedded.leave()


atexit.register(disconnect)


def _open(settings: Settings) -> Connection:
    if settings.database is not None:
        config = ServerConfig.from_file(settings.database)
        where = f"{settings.database}: the server {config.host}:{config.port}"
        return _open_client(settings, None, config.client_arguments(), config.database, where)
    embedded = EmbeddedDatabase(settings)
    arguments = embedded.join() | {"serverSelectionTimeoutMS": LOOPBACK_MS}
    try:
        return _open_client(settings, embedded, arguments, DATABASE, f"the database in {embedded.folder}")
    except BaseException:
        embedded.leave()
        raise


def _open_client(
    settings: Settings, embedded: EmbeddedDatabase | None, arguments: dict[str, Any], name: str, where: str
) -> Connection:
    """Connect and check that the server answers and lets us in. ``where`` names it in messages."""
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

    try:
        # journal: what has been acknowledged survives `kill -9` of the server
        client: MongoClient[dict[str, Any]] = MongoClient(journal=True, appname="mmace", **{**SILENT_MS, **arguments})
        hello, at = client.admin.command("hello"), time.monotonic()
        client[name].command("dbStats")
    except OperationFailure as error:
        raise UserError(f"{where} refuses user '{arguments.get('username')}'; check user, password, rights") from error
    except ConfigurationError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
    except PyMongoError as error:
        raise Unreachable(f"{where} does not answer; check host, port and that it runs") from error
    clock = (hello["localTime"].replace(tzinfo=UTC), at)
    return Connection(settings, client, client[name], arguments, embedded, os.getpid(), where, clock)
