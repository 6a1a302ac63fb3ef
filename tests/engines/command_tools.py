"""The `mmace` command as a user runs it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = 1500


def mmace(data_dir: Path, *arguments: str) -> str:
    """What it prints, errors after output. Fails where it does."""
    environment = {**os.environ, "MMACE_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mmace_flows.cli.app", *arguments],
        env=environment, cwd=data_dir, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
