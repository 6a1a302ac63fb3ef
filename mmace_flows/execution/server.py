"""A user's own MongoDB server, described by one YAML file; its password stays in the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmace.errors import UserError, unknown_key_message


class ServerConfig(BaseModel):
    """How to reach a MongoDB server. Holds the name of the password's environment variable, never the password."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(default="127.0.0.1", description="host name, or several as 'a,b,c' of one replica set")
    port: int = Field(default=27017, ge=1, le=65535)
    database: str = Field(default="mmace", description="database that holds documents and queue")
    username: str | None = None
    password_env: str | None = Field(default=None, description="environment variable that holds the password")
    auth_source: str = Field(default="admin", description="database that knows the user")
    tls: bool = False
    tls_ca_file: Path | None = None
    replica_set: str | None = None

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
                f"{path}: 'password' does not belong in a file; name its environment variable as 'password_env'"
            )
        for key in values:
            if key not in cls.model_fields:
                raise UserError(unknown_key_message(str(key), cls.model_fields, str(path)))
        try:
            config = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path}: {first['loc'][0]}: {first['msg'].lower()}, got {first['input']!r}") from error
        if config.username and not config.password_env:
            raise UserError(f"{path}: 'username' is given, so 'password_env' must name its environment variable")
        return config

    def password(self) -> str | None:
        """The password, from the environment. Raises UserError if its variable is not set."""
        if self.username is None:
            return None
        value = os.environ.get(self.password_env or "")
        if not value:
            raise UserError(f"environment variable {self.password_env} is not set; it holds the database password")
        return value

    def client_arguments(self) -> dict[str, Any]:
        """Arguments of pymongo's MongoClient, password included: never to be logged or stored."""
        arguments: dict[str, Any] = {"host": self.host, "port": self.port}
        if self.username is not None:
            arguments |= {"username": self.username, "password": self.password(), "authSource": self.auth_source}
        if self.tls:
            arguments["tls"] = True
            if self.tls_ca_file is not None:
                arguments["tlsCAFile"] = str(self.tls_ca_file.expanduser())
        if self.replica_set is not None:
            arguments["replicaSet"] = self.replica_set
        return arguments
