"""The embedded database: a real MongoDB in the data folder, started on demand, shared, stopped by its last user.

Every process that uses the server holds a lease: a file named after the process. Leases of dead processes do not
count, so nothing has to be tidied up after `kill -9`. A server whose users are all dead is found and used again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from typing import Any

from mmace.errors import UserError
from mmace_flows.execution.mongod import PortTaken, find_mongod, running_mongod, start_mongod, stop_mongod
from mmace_flows.execution.processes import FileLock, ProcessName, make_folder, write_file
from mmace_flows.execution.settings import Settings

DATABASE = "mmace"
USERNAME = "mmace"
KEEP = "keep"  # a lease of nobody: `mmace db start` asks for the server to stay


@dataclass(frozen=True)
class Status:
    """What is known about the embedded server without talking to it."""

    running: bool
    pid: int | None
    port: int | None
    users: list[int]
    kept: bool


class EmbeddedDatabase:
    """The server in ``<data_dir>/mongo``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.data_dir / "mongo"
        self.connection_file = self.folder / "connection.json"
        self.leases = self.folder / "leases"
        self._lock = FileLock(self.folder / "lock")

    def exists(self) -> bool:
        """Whether there ever was a database in this data folder."""
        return self.connection_file.exists()

    def join(self) -> dict[str, Any]:
        """Use the server, starting it if needed; returns arguments for MongoClient (password included).

        Raises UserError if it cannot be started.
        """
        make_folder(self.folder, self.settings.data_dir_mend)
        with self._lock:
            make_folder(self.leases)
            lease = self.leases / str(ProcessName.this())
            had_lease = lease.exists()
            if not had_lease:  # a disk that is full by now is no reason to lose what is there
                write_file(lease, "")
            try:
                return self._ensure_running(expected=had_lease or self._others())
            except BaseException:
                if not had_lease:
                    lease.unlink(missing_ok=True)
                raise

    def leave(self) -> None:
        """Give this process's lease back; the last one to leave stops the server."""
        if not self.folder.exists():
            return
        with self._lock:
            (self.leases / str(ProcessName.this())).unlink(missing_ok=True)
            if not self._users() and not (self.leases / KEEP).exists():
                self._stop()

    def keep(self) -> int:
        """Start the server and let it run until `stop`; returns its port."""
        make_folder(self.folder, self.settings.data_dir_mend)
        with self._lock:
            make_folder(self.leases)
            arguments = self._ensure_running(expected=self._others())
            write_file(self.leases / KEEP, "")
        return int(arguments["port"])

    def stop(self) -> bool:
        """Stop the server; False if it was not running. Raises UserError if living processes use it."""
        if not self.folder.exists():
            return False
        with self._lock:
            users = self._users()
            if users:
                listed = ", ".join(str(pid) for pid in users)
                raise UserError(f"the database is in use by process {listed}; stop that first (Ctrl-C or kill)")
            (self.leases / KEEP).unlink(missing_ok=True)
            return self._stop()

    def status(self) -> Status:
        """Whether it runs, where, and who uses it."""
        found = running_mongod(self.folder)
        pid, port = found or (None, None)
        return Status(found is not None, pid, port, self._users(), (self.leases / KEEP).exists())

    def _users(self) -> list[int]:
        """Process ids of living users; leases of dead ones are removed."""
        users = []
        for lease in self.leases.iterdir() if self.leases.exists() else []:
            process = ProcessName.parse(lease.name)
            if process is None:
                continue
            # the server listens on loopback, so its users run here, whatever this machine was called at the time
            if process.alive():
                users.append(process.pid)
            else:
                lease.unlink(missing_ok=True)
        return sorted(users)

    def _others(self) -> bool:
        return any(pid != os.getpid() for pid in self._users())

    def _stop(self) -> bool:
        found = running_mongod(self.folder)
        if found is None:
            return False
        if not stop_mongod(found[0]):
            raise UserError(f"mongod (process {found[0]}) does not end; see {self.folder / 'mongod.log'}")
        return True

    def _ensure_running(self, expected: bool) -> dict[str, Any]:
        """Start or find the server and make sure that our user exists in it.

        ``expected``: living processes know its port; where the server was when it died, there they look for it.
        """
        known = self._read_connection()
        if known is None and (self.folder / "data" / "WiredTiger").exists():
            raise UserError(
                f"{self.connection_file}: missing or unreadable, so the database's password is lost; restore the file, "
                f"or move {self.folder} away to begin with an empty database"
            )
        password = known["password"] if known else secrets.token_urlsafe(32)
        if known is None:
            # written before the server knows it: whatever dies in between, the password is never lost
            self._write_connection(password, None)
        found = running_mongod(self.folder)
        if found is None:
            program = find_mongod(self.settings.mongod)
            preferred = known.get("port") if known else None
            fixed = self.settings.database_port or (preferred if expected else None)
            try:
                found = start_mongod(program, self.folder, fixed, preferred)
            except PortTaken as error:
                if fixed == self.settings.database_port:
                    raise
                mend = "free it, or stop all that wait for the database (they look for it there) and start again"
                raise PortTaken(error.port, mend) from error
        port = found[1]
        if known is None or known.get("port") != port:
            self._write_connection(password, port)
        arguments: dict[str, Any] = {"host": "127.0.0.1", "port": port, "username": USERNAME, "password": password}
        arguments["authSource"] = "admin"
        self._ensure_user(arguments)
        return arguments

    def _ensure_user(self, arguments: dict[str, Any]) -> None:
        """Make our user on the first start: an empty server lets a client on loopback make the first one."""
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure, PyMongoError

        client: MongoClient[dict[str, Any]]
        try:
            with contextlib.closing(MongoClient(**arguments, serverSelectionTimeoutMS=20000)) as client:
                client.admin.command("ping")
                client[DATABASE].command("dbStats")  # ping alone does not ask for the password
            return
        except OperationFailure as error:
            if error.code != 18:  # anything but "authentication failed"
                raise UserError(f"the database in {self.folder} refuses its user ({error.code})") from error
        except PyMongoError as error:
            raise UserError(
                f"the database in {self.folder} does not answer; see {self.folder / 'mongod.log'}"
            ) from error
        host, port = arguments["host"], arguments["port"]
        try:
            with contextlib.closing(MongoClient(host, port, serverSelectionTimeoutMS=20000)) as client:
                client.admin.command("createUser", USERNAME, pwd=arguments["password"], roles=["root"])
        except OperationFailure as error:
            raise UserError(
                f"{self.connection_file}: its password is not the database's; restore the file, "
                f"or move {self.folder} away to begin with an empty database"
            ) from error

    def _read_connection(self) -> dict[str, Any] | None:
        try:
            values = json.loads(self.connection_file.read_text())
        except (OSError, ValueError):
            return None
        return values if isinstance(values, dict) and "password" in values else None

    def _write_connection(self, password: str, port: int | None) -> None:
        values = {"host": "127.0.0.1", "port": port, "username": USERNAME, "password": password, "auth_source": "admin"}
        write_file(self.connection_file, json.dumps(values | {"database": DATABASE}, indent=1) + "\n", mode=0o600)
