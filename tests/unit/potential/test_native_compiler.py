"""The compiler of the kernels: what it says, and that nothing of it is left when it takes too long."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmace.native import _run

# starts a stage as a compiler does, and tells its number
DRIVER = """
import subprocess, sys

stage = subprocess.Popen(["sleep", "600"])
open(sys.argv[1], "w").write(str(stage.pid))
stage.wait()
"""


def runs(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_stages_of_a_compiler_end_with_it(tmp_path):
    told = tmp_path / "stage"
    with pytest.raises(subprocess.TimeoutExpired):
        _run([sys.executable, "-c", DRIVER, str(told)], 3.0)
    stage = int(told.read_text())
    for _ in range(100):
        if not runs(stage):
            break
        time.sleep(0.05)
    assert not runs(stage)


def test_what_a_compiler_says_comes_back():
    assert _run([sys.executable, "-c", "import sys; sys.exit('kernels.cpp:1: error: no')"], 60.0) == (
        1,
        "kernels.cpp:1: error: no\n",
    )
