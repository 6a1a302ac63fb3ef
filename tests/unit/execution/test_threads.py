"""Threads of linear algebra: one by default where DFT runs, and the user's number where there is one."""

import subprocess
import sys

from mmace_flows.execution.threads import SINGLE_THREADED, default_to_one_thread


def test_one_thread_unless_the_user_says_otherwise():
    empty: dict[str, str] = {}
    default_to_one_thread(empty)
    assert empty == dict.fromkeys(SINGLE_THREADED, "1")
    own = {"OMP_NUM_THREADS": "4"}
    default_to_one_thread(own)
    assert own == {"OMP_NUM_THREADS": "4"}


def test_numbers_are_read_before_numpy_is_imported():
    code = "import sys, mmace_flows.cli.app; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
