"""`mmace project init`: the files of a project, made from the commented templates of db_config/."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import mmace_flows
from mmace.errors import UserError
from mmace_flows.execution.campaign import check_name
from mmace_flows.execution.processes import make_folder, write_file
from mmace_flows.execution.projects import FILE, Project, open_project, project_folder
from mmace_flows.execution.server import ServerConfig, read_uri

TEMPLATES = Path(mmace_flows.__file__).parents[1] / "db_config"


@dataclass(frozen=True)
class NewProject:
    """What `mmace project init` is asked for."""

    name: str
    database: Path | None = None  # a YAML file, or one that holds a mongodb:// address; None: embedded
    data_dir: Path | None = None
    recipes: tuple[Path, ...] = ()
    slurm: bool = False
    partition: str | None = None
    gpu: bool = False
    gpu_partition: str | None = None
    account: str | None = None
    cores: int = 8
    walltime: str = "04:00:00"


def init_project(wanted: NewProject) -> Project:
    """Write the project's files; returns the project, read back. Raises UserError, and writes nothing if one exists."""
    folder = project_folder(wanted.name)
    name = check_name(folder.name)
    if (folder / FILE).exists():
        raise UserError(f"{folder / FILE} exists; edit it, or choose another name")
    if not re.fullmatch(r"\d{1,3}(-\d{2})?:\d{2}:\d{2}", wanted.walltime):
        raise UserError(f"--walltime {wanted.walltime}: expected hours:minutes:seconds, like 04:00:00")
    files: dict[str, str] = {}
    secrets: dict[str, str] = {}
    if wanted.database is not None:
        server, password = _server(wanted.database)
        if password is not None:
            secrets["password"] = password + "\n"
        files["database.yaml"] = _database(server, has_password_file=password is not None)
        files["launchpad.yaml"] = _launchpad(server)
    kinds = ["cpu", "gpu"] if wanted.gpu else ["cpu"]
    for kind in kinds:
        files[f"worker_{kind}.yaml"] = _worker(kind, wanted)
        if wanted.slurm:
            files[f"slurm_{kind}.yaml"] = _slurm(kind, wanted, folder, name)
    files[FILE] = _project(kinds, wanted, name)
    make_folder(folder, "choose another name or folder")
    for file, text in secrets.items():
        write_file(folder / file, text, mode=0o600)
    for file, text in files.items():  # project.yaml last: without it there is no project
        write_file(folder / file, text, mode=0o600 if file == "launchpad.yaml" else 0o644)
    return open_project(wanted.name)


def with_values(text: str, values: dict[str, Any]) -> str:
    """A YAML text with some top-level values replaced, and its comments kept. None comments a line out.

    What the text does not have is written at its end.
    """
    lines = text.splitlines()
    for key, value in values.items():
        pattern = re.compile(rf"^(?:# )?{re.escape(key)}:(?P<value>[^#]*?)(?P<comment>\s+#.*)?$")
        for number, line in enumerate(lines):
            found = pattern.match(line)
            if found is None:
                continue
            comment = found["comment"] or ""
            if value is None:
                lines[number] = line if line.startswith("# ") else f"# {line}"
            else:
                lines[number] = f"{key}: {_dumped(value)}{comment}"
            break
        else:
            lines.append(f"{key}: {_dumped(value)}")
    return "\n".join(lines) + "\n"


def _dumped(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("\n...")


def _template(name: str) -> str:
    try:
        return (TEMPLATES / name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{TEMPLATES / name}: cannot be read; templates lie in db_config/ of the clone") from error


def _server(path: Path) -> tuple[ServerConfig, str | None]:
    """Server of a YAML file, or of a file with an address; a password only of the latter."""
    path = path.expanduser().absolute()
    try:
        first = path.read_text(encoding="utf-8").lstrip()[:10]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read; give a YAML file like db_config/own_server.yaml") from error
    return read_uri(path) if first.startswith("mongodb") else (ServerConfig.from_file(path), None)


def _database(server: ServerConfig, has_password_file: bool) -> str:
    values = server.model_dump(mode="json", exclude_defaults=True)
    # what the template has, but this server does not
    values |= {key: getattr(server, key) for key in ("host", "port", "database", "auth_source", "tls")}
    values |= {key: getattr(server, key) for key in ("username", "password_env")}
    if has_password_file:
        values |= {"password_file": "password", "password_env": None}
    return with_values(_template("own_server.yaml"), values)


def _launchpad(server: ServerConfig) -> str:
    options: dict[str, Any] = {}
    if server.tls:
        options["tls"] = True
        for option, path in (
            ("tlsCAFile", server.tls_ca_file),
            ("tlsCertificateKeyFile", server.tls_certificate_file),
        ):
            options |= {option: str(path)} if path is not None else {}
    if server.replica_set:
        options["replicaSet"] = server.replica_set
    values: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "name": server.database,
        "username": server.username,
        "authsource": server.auth_source if server.username else None,
        "mongoclient_kwargs": options,
    }
    return with_values(_template("launchpad.yaml"), values)


def _worker(kind: str, wanted: NewProject) -> str:
    text = _template(f"worker_{kind}.yaml")
    if kind == "cpu":
        if not wanted.gpu:
            text = with_values(text, {"category": ["cpu", "gpu"]})
        text = re.sub(r"processes: \d+", f"processes: {wanted.cores}", text)
    return text


def _slurm(kind: str, wanted: NewProject, folder: Path, name: str) -> str:
    launch = shlex.join([str(Path(sys.executable).parent / "mmace"), "worker", kind, "--project", str(folder)])
    values: dict[str, Any] = {
        "rocket_launch": launch,
        "job_name": f"mmace-{name}-{kind}",
        "cpus_per_task": wanted.cores,
        "walltime": wanted.walltime,
        "queue": wanted.partition if kind == "cpu" else wanted.gpu_partition or wanted.partition,
        "account": wanted.account,
    }
    return with_values(_template(f"slurm_{kind}.yaml"), values)


def _project(kinds: list[str], wanted: NewProject, name: str) -> str:
    workers: dict[str, Any] = {}
    for kind in kinds:
        workers[kind] = {"fworker": f"worker_{kind}.yaml"}
        if wanted.slurm:
            workers[kind]["qadapter"] = f"slurm_{kind}.yaml"
    head, _, rest = _template(FILE).partition("workers:\n")
    below = rest.partition("\n\n")[2]
    text = f"{head}workers:\n{_indented(yaml.safe_dump(workers, sort_keys=False))}\n{below}"
    values = {
        "name": name,
        "database": "database.yaml" if wanted.database is not None else None,
        "data_dir": str(wanted.data_dir.expanduser().absolute()) if wanted.data_dir else "data",
        "recipes": [str(recipe.expanduser().resolve()) for recipe in wanted.recipes],
    }
    return with_values(text, values)


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
