"""Projects: one database, one folder for runs, and the workers that take its jobs, described in a folder of files.

A project is named by its folder, or by a name that stands for ``projects/NAME`` in the data folder of this machine.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmace.errors import UserError, unknown_key_message
from mmace_flows.execution.explain import explain
from mmace_flows.execution.settings import Settings, load_settings, read_yaml
from mmace_flows.execution.trust import trust_folder

FILE = "project.yaml"
M = TypeVar("M", bound=BaseModel)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WorkerFiles(_File):
    """Files of one kind of worker."""

    fworker: Path = Field(description="FireWorks worker file")
    qadapter: Path | None = Field(default=None, description="FireWorks queue adapter; empty: workers run by hand")


class ProjectConfig(_File):
    """What stands in project.yaml."""

    name: str
    database: Path | None = Field(default=None, description="YAML file of the MongoDB server; empty: the embedded one")
    data_dir: Path = Field(default=Path("data"), description="folder for runs, logs and reports")
    recipes: list[Path] = Field(default_factory=list, description="folders of recipes whose own jobs may run")
    job_store: Path | None = Field(default=None, description="YAML file of a jobflow JobStore for job outputs")
    workers: dict[str, WorkerFiles] = Field(description="the kinds of worker")
    engines: list[str] = Field(default=["gpaw"], description="engines that `mmace project check` tries")
    espresso_command: str | None = Field(default=None, description="how pw.x is run; {cores}: of one job")


class WorkerSettings(_File):
    """``env`` of a FireWorks worker file."""

    processes: int = Field(default=1, ge=1, description="jobs side by side in one allocation")
    memory_gb: float | None = Field(default=None, gt=0.0, description="memory of one allocation, GB")


class WorkerConfig(_File):
    """A FireWorks worker file."""

    name: str
    category: list[str] | str = Field(default_factory=list, description="which jobs it takes; empty: all")
    query: str = Field(default="{}", description="further condition on jobs, JSON")
    env: WorkerSettings = Field(default_factory=WorkerSettings)

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories, empty for all."""
        return (self.category,) if isinstance(self.category, str) and self.category else tuple(self.category)


@dataclass(frozen=True)
class Project:
    """A project's folder and what its files say."""

    folder: Path
    config: ProjectConfig
    given: str  # how the user names it

    @property
    def file(self) -> Path:
        """The project's own file."""
        return self.folder / FILE

    def path(self, path: Path) -> Path:
        """A path of project.yaml, which is relative to that file."""
        return self.folder / path.expanduser()

    def settings(self) -> Settings:
        """Settings of this machine with the project's database and folder in place."""
        config = self.config
        return load_settings(
            data_dir=self.path(config.data_dir),
            database=self.path(config.database) if config.database else None,
            job_store=self.path(config.job_store) if config.job_store else None,
        )

    def activate(self) -> Settings:
        """`settings`, for jobs and stores that look for them in this process's environment too; trusts the recipes.

        Afterwards a project's name means another folder: open all projects before.
        """
        for variable in ("MMACE_DATABASE", "MMACE_JOB_STORE"):  # those of this machine are not the project's
            os.environ.pop(variable, None)
        settings = self.settings()
        os.environ.update(settings.environment())
        for folder in self.recipe_dirs():
            trust_folder(folder)
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
        return settings

    def worker(self, kind: str) -> WorkerConfig:
        """What the file of a kind of worker says. Raises UserError."""
        if kind not in self.config.workers:
            message = unknown_key_message(kind, self.config.workers, f"{self.file}: workers")
            raise UserError(message.replace("unknown setting", "unknown worker"))
        path = self.path(self.config.workers[kind].fworker)
        return _checked(WorkerConfig, path)

    def serving(self, category: str) -> list[str]:
        """Kinds of worker that take jobs of a category."""
        kinds = {kind: self.worker(kind).categories for kind in self.config.workers}
        return [kind for kind, categories in kinds.items() if not categories or category in categories]

    def recipe_dirs(self) -> list[Path]:
        """Folders of recipes whose own jobs may run."""
        return [self.path(folder).resolve() for folder in self.config.recipes]


def project_folder(name: str) -> Path:
    """Folder of a project: ``name`` itself if it is a path to one, else ``projects/NAME`` in the data folder."""
    given = Path(name).expanduser()
    if (given / FILE).exists():
        return given.absolute()
    if given.name == FILE and given.exists():
        return given.absolute().parent
    if len(given.parts) > 1:
        return given.absolute()
    return load_settings().data_dir / "projects" / name


def open_project(name: str) -> Project:
    """The project of a name or folder. Raises UserError that says what is wrong with its file."""
    folder = project_folder(name)
    if not (folder / FILE).exists():
        parent = load_settings().data_dir / "projects"
        known = sorted(found.parent.name for found in parent.glob(f"*/{FILE}"))
        hint = f"known: {', '.join(known)}" if known else f"make it with `mmace project init {name}`"
        raise UserError(f"no project '{name}' ({folder / FILE} is not there); {hint}")
    config = _checked(ProjectConfig, folder / FILE)
    for field in ("database", "job_store"):
        path = getattr(config, field)
        if path is not None and not (folder / path.expanduser()).exists():
            raise UserError(f"{folder / FILE}: {field}: {folder / path} is not there")
    return Project(folder, config, name)


def _checked(kind: type[M], path: Path) -> M:
    """A file's content. Raises UserError that names file and field."""
    values: dict[str, Any] = read_yaml(path)
    for key in values:
        if key not in kind.model_fields:
            raise UserError(unknown_key_message(str(key), kind.model_fields, str(path)))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(kind, values, error)}") from error
