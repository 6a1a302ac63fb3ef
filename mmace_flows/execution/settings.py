"""Settings of this machine: from `MMACE_…` environment variables or a YAML file."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mmace.errors import UserError, unknown_key_message

PREFIX = "MMACE_"
SETTINGS_FILE_VARIABLE = "MMACE_SETTINGS"  # path of the YAML file, if not ~/.mmace/settings.yaml


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Where data lies, which database is used, how many jobs run at a time.

    Each field may stand in the YAML file under its name, or in the environment as ``MMACE_`` and its name in capitals;
    the environment wins.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True)

    data_dir: Path = Field(default=Path("~/.mmace"), description="folder for database, campaigns, logs and reports")
    database: Path | None = Field(
        default=None, description="YAML file of your own MongoDB server (see db_config/); empty: embedded server"
    )
    job_store: Path | None = Field(
        default=None, description="YAML file of a jobflow JobStore for job outputs, such as S3; empty: the database"
    )
    database_port: int | None = Field(
        default=None, ge=1024, le=65535, description="fixed port of the embedded server; empty: a free one"
    )
    mongod: Path | None = Field(default=None, description="mongod program of the embedded server; empty: look for it")
    workers: int = Field(default_factory=available_cores, ge=1, description="jobs that run at a time on this machine")
    pseudo_dir: Path | None = Field(
        default=None, description="folder of UPF pseudopotentials for Quantum ESPRESSO; empty: Debian's, if it is there"
    )
    espresso_command: str = Field(
        default="pw.x", description="how pw.x is run, for example 'mpirun -n 2 pw.x'; no shell reads it"
    )
    gpaw_processes: int = Field(
        default=1, ge=1, description="processes of each GPAW calculation; more than one needs a GPAW built with MPI"
    )

    trusted_packages: str = Field(
        default="", description="further Python packages whose jobs may run, like 'mylab,atomate2'"
    )

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)  # field → where its value was given

    def source(self, field: str) -> str:
        """Where a field's value was given: a variable, the settings file, or an option; empty for a default."""
        return self._sources.get(field, "")

    def environment(self) -> dict[str, str]:
        """Variables by which another process finds the same database and folder."""
        found = {"MMACE_DATA_DIR": str(self.data_dir)}
        for field in ("database", "job_store"):
            if getattr(self, field) is not None:
                found[PREFIX + field.upper()] = str(getattr(self, field))
        return found

    @property
    def data_dir_mend(self) -> str:
        """What to change if the data folder cannot be used, with the place that named it."""
        source = self.source("data_dir")
        if not source or source.startswith("--"):
            return "choose another with --data-dir"
        return f"it comes from {source}: correct that, or give --data-dir"


def load_settings(**overrides: Any) -> Settings:
    """Settings from YAML file, environment and ``overrides`` (None means not given), the last one winning.

    Raises UserError that names the field and the nearest right one.
    """
    path = Path(os.environ.get(SETTINGS_FILE_VARIABLE, "~/.mmace/settings.yaml")).expanduser()
    values = read_yaml(path) if path.exists() or SETTINGS_FILE_VARIABLE in os.environ else {}
    fields = list(Settings.model_fields)
    for key in values:
        if key not in fields:
            raise UserError(unknown_key_message(str(key), fields, str(path)))
    _check_environment(fields)
    sources = dict.fromkeys(values, str(path))
    for field in fields:  # the file is the weakest source, but arguments of BaseSettings would beat the environment
        variable = PREFIX + field.upper()
        if os.environ.get(variable):
            values.pop(field, None)
            sources[field] = variable
    given = {key: value for key, value in overrides.items() if value is not None}
    values.update(given)
    sources.update({key: f"--{key.replace('_', '-')}" for key in given})
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        variable = PREFIX + field.upper()
        source = variable if variable in os.environ else f"{path}: {field}" if field in values else field
        raise UserError(f"{source}: {first['msg'].lower()}, got {first['input']!r}") from error
    paths = {key: value.expanduser().absolute() for key in fields if isinstance(value := getattr(settings, key), Path)}
    settings = settings.model_copy(update=paths)
    settings._sources = sources
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError if it is not one."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected lines like 'data_dir: /some/folder'")
    return values


def _check_environment(fields: list[str]) -> None:
    """A misspelt variable is an error rather than silence. Raises UserError."""
    known = {PREFIX + field.upper() for field in fields} | {SETTINGS_FILE_VARIABLE}
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            # variables without a near name are left alone: a password's variable, for one, has a name of the user's
            if difflib.get_close_matches(variable, known, n=1, cutoff=0.85):
                raise UserError(unknown_key_message(variable, known, "environment"))
