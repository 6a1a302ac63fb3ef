"""What each process of a GPAW calculation in several processes runs: see `gpaw_processes`. Called with a job's file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(job: Path) -> None:
    """The calculation in the file ``job``; the first process writes the result."""
    from gpaw.mpi import world

    from mmace_flows.labels.engine import EngineResult
    from mmace_flows.labels.gpaw_engine import one_attempt
    from mmace_flows.labels.gpaw_processes import as_json
    from mmace_flows.labels.gpaw_settings import GPAWSettings
    from mmace_flows.schemas.structure import MagneticStructure

    told = json.loads(job.read_text(encoding="utf-8"))
    result = EngineResult()
    failure = one_attempt(
        MagneticStructure.model_validate(told["structure"]),
        GPAWSettings.model_validate(told["settings"]),
        Path(told["text_file"]),
        result,
    )
    if world.rank == 0:
        target = Path(told["result_file"])
        half = target.with_name(f"half-{target.name}")
        half.write_text(json.dumps(as_json(result, failure)), encoding="utf-8")
        os.replace(half, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
