"""Speed of the potential against plain mace-torch, in one run, both in turn.

    python benchmarks/speed.py [--quick] [--config small] [--json PATH] [--env FOLDER] [--device cpu|cuda]

mace-torch pins another e3nn than this project, so that it gets an environment of its own, made on first use. Each row
is one case: seconds per call (median) and the median over pairs of our time divided by mace-torch's without moments.
Evaluation: energy, forces, stress, and magnetic forces where there are moments, of rattled bcc iron. Training: one Adam
step on a batch of eight four-atom cells.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

MACE = ("torch==2.13.0", "mace-torch==0.3.16")
CONFIGS = ("small", "foundation")
HERE = Path(__file__).resolve().parent
TURN = 0.2  # seconds that mace-torch computes at least before it is the other side's turn


def mace_python(folder: Path) -> Path:
    """The interpreter of an environment with mace-torch, made if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making an environment for {MACE[1]} in {folder} (some minutes, once)", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        for package in MACE:  # torch first: a range admitted by mace-torch would take the newest, with CUDA packages
            subprocess.run([str(python), "-m", "pip", "install", "-q", package], check=True)
        (folder / "complete").touch()
    return python


class Side:
    """A worker process that times calls on request."""

    def __init__(self, python: Path | str, name: str, device: str, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [str(python), "-W", "ignore", str(HERE / "speed_worker.py"), name, device, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request, wait for its answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise SystemExit("a worker ended early; its message stands above")


def cases(quick: bool, configs: tuple[str, ...]) -> list[dict[str, Any]]:
    """All cases to compare."""
    sizes = [("evaluate", n) for n in ((16, 128) if quick else (16, 54, 128, 250))] + [("train", 32)]
    dtypes = ("float32",) if quick else ("float32", "float64")
    return [
        {"config": config, "dtype": dtype, "task": task, "n_atoms": n}
        for config, dtype, (task, n) in itertools.product(configs, dtypes, sizes)
    ]


def main() -> None:
    """Run all cases and print, and write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases, within ten minutes")
    parser.add_argument("--config", choices=CONFIGS, help="one of the two configurations only")
    parser.add_argument("--json", type=Path, help="write one row per case to this file")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--env", type=Path, default=cache / "mmace" / "mace-torch", help="environment of mace-torch")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of turns per case")
    arguments = parser.parse_args()
    ours = Side(sys.executable, "mmace", arguments.device, arguments.threads)
    theirs = Side(mace_python(arguments.env), "mace", arguments.device, arguments.threads)
    rows = []
    print(
        f"{'config':11} {'dtype':8} {'task':9} {'atoms':>5} {'symmetry':8} {'ms':>9} {'ratio':>6} {'GB':>5}", flush=True
    )
    for case in cases(arguments.quick, (arguments.config,) if arguments.config else CONFIGS):
        theirs.ask({"case": case})
        for symmetry in ("soc", "nonsoc", "none"):
            ours.ask({"case": {**case, "symmetry": symmetry}})
            # after the other side's turn caches are cold: a turn of a few milliseconds would tell little else
            calls = max(1, math.ceil(TURN / theirs.ask({"calls": 1})["seconds"]))
            pairs = [
                (ours.ask({"calls": calls})["seconds"], theirs.ask({"calls": calls})["seconds"])
                for _ in range(arguments.repeats)
            ]
            memory = ours.ask({"calls": 1})["memory_gb"]
            row = {
                "symmetry": symmetry,
                **case,
                "seconds": statistics.median(a for a, _ in pairs),
                "mace_seconds": statistics.median(b for _, b in pairs),
                "ratio_to_mace": statistics.median(a / b for a, b in pairs),
                "peak_memory_gb": memory,  # of the worker so far, all cases before included
            }
            rows.append(row)
            print(
                f"{row['config']:11} {row['dtype']:8} {row['task']:9} {row['n_atoms']:5} {symmetry:8} "
                f"{1e3 * row['seconds']:9.1f} {row['ratio_to_mace']:6.3f} {memory:5.2f}",
                flush=True,
            )
    if arguments.json:
        temporary = arguments.json.with_suffix(".part")
        temporary.write_text(json.dumps(rows, indent=1))
        temporary.replace(arguments.json)


if __name__ == "__main__":
    main()
