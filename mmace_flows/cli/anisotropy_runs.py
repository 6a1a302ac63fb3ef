"""Force-theorem runs named on the command line: in the store, or in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmace_flows.schemas.spin_orbit import SpinOrbitDocument


def named_runs(sources: Sequence[str], data_dir: Path | None) -> list[tuple[str, SpinOrbitDocument]]:
    """Every run of every source, once, with the source that names it first. Raises UserError as `read_documents`."""
    from mmace_flows.learning.anisotropy_data import STORE, read_documents

    stores = None
    if any(source.startswith(STORE) for source in sources):
        from mmace_flows.execution.settings import load_settings
        from mmace_flows.execution.stores import open_stores

        stores = open_stores(load_settings(data_dir=data_dir))
    found: dict[str, tuple[str, SpinOrbitDocument]] = {}
    for source in sources:
        for one in read_documents(source, stores):
            found.setdefault(one.spin_orbit_key, (source, one))
    return list(found.values())
