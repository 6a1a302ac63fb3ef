"""A user's own MongoDB server, described by one YAML file; its password stands elsewhere, in environment or file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmace.errors import UserError, unknown_key_message
from mmace_flows.execution.secret_files import check_mode, read_secret


class ServerConfig(BaseModel):
    """How to reach a MongoDB server. Says where the password stands, never the password."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(default="127.0.0.1", description="host name, or several as 'a,b,c' of one replica set")
    port: int = Field(default=27017, ge=1, le=65535)
    database: str = Field(default="mmace", description="database that holds documents and queue")
    username: str | None = None
    password_env: str | None = Field(default=None, description="environment variable that holds the password")
    password_file: Path | None = Field(default=None, description="file, mode 0600, that holds the password alone")
    auth_source: str = Field(default="admin", description="database that knows the user")
    tls: bool = False
    tls_ca_file: Path | None = Field(default=None, description="certificate of who signed the server's")
    tls_certificate_file: Path | None = Field(default=None, description="own certificate and key, mode 0600")
    replica_set: str | None = None
    silent_seconds: float = Field(default=15.0, gt=0.0, description="silence after which the server counts as gone")

    @classmethod
    def from_file(cls, path: Path) -> ServerConfig:
        """Read and check. Raises UserError that names file and field."""
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); see db_config/own_server.yaml") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected lines like 'host: db.example.org'; see db_config/own_server.yaml")
        if "password" in values:
            raise UserError(
                f"{path}: 'password' does not belong in a file like this; name its environment variable as "
                "'password_env', or a file of mode 0600 as 'password_file'"
            )
        for key in values:
            if key not in cls.model_fields:
                raise UserError(unknown_key_message(str(key), cls.model_fields, str(path)))
        try:
            config = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path}: {first['loc'][0]}: {first['msg'].lower()}, got {first['input']!r}") from error
        if config.username and not (config.password_env or config.password_file):
            raise UserError(
                f"{path}: 'username' is given, so 'password_env' must name the environment variable of its password, "
                "or 'password_file' a file"
            )
        beside = {
            field: path.absolute().parent / file.expanduser()  # an absolute path stays what it is
            for field in ("password_file", "tls_ca_file", "tls_certificate_file")
            if (file := getattr(config, field)) is not None
        }
        return config.model_copy(update=beside)

    def password(self) -> str | None:
        """The password. Raises UserError if its variable is not set, or its file readable by others."""
        if self.username is None:
            return None
        value = os.environ.get(self.password_env or "")
        if not value and self.password_file is not None:
            return read_secret(self.password_file)
        if not value:
            raise UserError(f"environment variable {self.password_env} is not set; it holds the database password")
        return value

    def client_arguments(self) -> dict[str, Any]:
        """Arguments of pymongo's MongoClient, password included: never to be logged or stored."""
        arguments: dict[str, Any] = {"host": self.host, "port": self.port}
        silent = int(1000 * self.silent_seconds)
        # an answer may take longer than a sign of life: one operation has eight times as long
        arguments |= {"serverSelectionTimeoutMS": silent, "connectTimeoutMS": silent, "socketTimeoutMS": 8 * silent}
        if self.username is not None:
            arguments |= {"username": self.username, "password": self.password(), "authSource": self.auth_source}
        if self.tls:
            arguments["tls"] = True
            if self.tls_ca_file is not None:
                arguments["tlsCAFile"] = str(self.tls_ca_file)
            if self.tls_certificate_file is not None:
                check_mode(self.tls_certificate_file)
                arguments["tlsCertificateKeyFile"] = str(self.tls_certificate_file)
        if self.replica_set is not None:
            arguments["replicaSet"] = self.replica_set
        return arguments


def read_uri(path: Path) -> tuple[ServerConfig, str | None]:
    """Server and password from a file that holds a ``mongodb://…`` address alone. Raises UserError."""
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    text = read_secret(path).strip()
    try:
        found = parse_uri(text)
    except (PyMongoError, ValueError) as error:
        message = str(error).replace(text, "the address")  # it may hold a password
        raise UserError(f"{path}: not a MongoDB address ({' '.join(message.split())})") from error
    options, nodes = found["options"], found["nodelist"]
    config = ServerConfig(
        host=nodes[0][0] if len(nodes) == 1 else ",".join(f"{host}:{port}" for host, port in nodes),
        port=nodes[0][1] or 27017,
        database=found["database"] or "mmace",
        username=found["username"],
        auth_source=options.get("authSource") or "admin",
        tls=bool(options.get("tls", False)),
        tls_ca_file=options.get("tlsCAFile"),
        replica_set=options.get("replicaSet"),
    )
    return config, found["password"]
