"""Settings of commands that read a database and must not make an empty one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmace_flows.execution.settings import Settings


def existing_database(data_dir: Path | None) -> Settings:
    """The settings of this machine. Raises UserError where there never was a database."""
    from mmace.errors import UserError
    from mmace_flows.execution.embedded import EmbeddedDatabase
    from mmace_flows.execution.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    if settings.database is None and not EmbeddedDatabase(settings).exists():
        raise UserError(
            f"there is no database in {settings.data_dir}; `mmace soc` and `mmace run` make one, or name another "
            "folder with --data-dir"
        )
    return settings
