"""Accuracy of the potential's forms, without moments, and of plain mace-torch, on public data at equal budgets.

    python benchmarks/accuracy.py --data FOLDER --output RESULTS --epochs 100
    python benchmarks/accuracy.py --data FOLDER --output CURVE --steps 4000 --learning-curve 10,30,100,300,1000
    python benchmarks/accuracy.py --output FENI --sets feni --epochs 100
    python benchmarks/accuracy.py --data FOLDER --output QUICK --epochs 2 --configurations 30 --sets nio

FOLDER holds fe_train.extxyz, fe_valid.extxyz and nio_spin.extxyz; nothing in it is copied. feni is the project's own.
Each case (data set, model, number of structures, seed) has a folder of its own under RESULTS and is resumed there: the
same command after a kill goes on. results.md and results.json are written anew after every case; a case that fails is
noted and the rest goes on.

All models get the same structures, epochs (or optimiser steps, or minutes of one core), batch size, loss weights,
learning rates with a cosine to the end, and moving average. The weights kept are the best on 32 training structures; no
test structure takes part. Made to run unattended: OMP_NUM_THREADS=1 nohup python benchmarks/accuracy.py … > log &
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mmace.errors import UserError

MODELS = ("soc", "nonsoc", "paper", "none", "mace")
COST = {"soc": 1.0, "nonsoc": 1.3, "paper": 1.0, "none": 0.4, "mace": 1.5, "labels": 0.0}  # guesses until measured
SAY_SECONDS = 60.0


class Clock:
    """Time left, from what the cases so far took."""

    def __init__(self, cases: list[Any], work: list[float], minutes: float | None) -> None:
        self.cases, self.work, self.minutes = cases, work, minutes
        self.rates: dict[str, list[float]] = {}
        self.said = 0.0

    def finished(self, index: int, seconds: float) -> None:
        """Takes in the time of a case."""
        if seconds > 0 and self.work[index] > 0:
            self.rates.setdefault(self.cases[index].model, []).append(seconds / self.work[index])

    def rate(self, model: str) -> float | None:
        """Seconds per structure and epoch; of another model, scaled, where this one has not been seen."""
        known = {name: sum(values) / len(values) for name, values in self.rates.items()}
        if model in known:
            return known[model]
        scaled = [value / COST[name] for name, value in known.items()]
        return COST[model] * sum(scaled) / len(scaled) if scaled else None

    def left(self, index: int, fraction: float, seconds: float) -> str:
        """Time left of this case and of all."""
        own = seconds * (1 - fraction) / fraction if fraction > 0 else 0.0
        rest = 0.0
        rates = dict(self.rates)
        if fraction > 0 and self.work[index] > 0:
            self.rates = {**rates, self.cases[index].model: [seconds / fraction / self.work[index]]}
        for number in range(index + 1, len(self.cases)):
            model = self.cases[number].model
            rate = self.rate(model)
            rest += 60 * self.minutes if self.minutes and model != "labels" else (rate or 0.0) * self.work[number]
        self.rates = rates
        return f"{_duration(own)} left here, {_duration(own + rest)} in all"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options. Exits for what makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(), help="folder with the public data sets [default: here]")
    parser.add_argument("--output", type=Path, required=True, help="folder of results; the same again goes on")
    parser.add_argument("--sets", default="fe,nio", help="data sets: fe, nio, feni")
    parser.add_argument("--models", default="soc,nonsoc,paper,none", help=f"of {', '.join(MODELS)}")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--epochs", type=int, help="passes over the training structures [default: 100]")
    budget.add_argument("--steps", type=int, help="optimiser steps of each case; right for learning curves")
    budget.add_argument("--minutes", type=float, help="minutes of one core for each case, as epochs from timed steps")
    parser.add_argument("--configurations", type=int, help="training structures, chosen by seed [default: all]")
    parser.add_argument("--learning-curve", help="several numbers of training structures, e.g. 10,30,100,300,1000")
    parser.add_argument("--seeds", default="0", help="of weights, order and choice of structures, e.g. 0,1,2")
    environment = "compare with mace-torch in this environment, made if need be [default: speed.py's]"
    parser.add_argument("--mace", type=Path, nargs="?", const=_mace_folder(), metavar="ENV", help=environment)
    parser.add_argument("--hidden", default="64x0e")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--r-max", type=float, help="Å [default: 4.5 for fe, 5.0 for nio]")
    parser.add_argument("--l-mag", type=int, default=3, help="of soc and paper")
    # two independent factors multiply: at 3 a step takes about forty times as long, and setting up takes minutes
    parser.add_argument("--l-mag-nonsoc", type=int, default=1, help="of nonsoc, where 3 costs too much [default: 1]")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-rotate", action="store_true", help="do not turn moments at random for soc and paper")
    parser.add_argument("--magnetic-scale", type=float, help="of magnetic-force labels [default: 1.285 for nio]")
    parser.add_argument("--no-magnetic-forces", action="store_true", help="judge, but do not train on them")
    return parser.parse_args(arguments)


def _mace_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmace" / "mace-torch"


def _names(text: str, known: Any, option: str) -> list[str]:
    from mmace.errors import unknown_key_message

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UserError(unknown_key_message(name, known, option))
    return names


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} {text}: give whole numbers separated by commas") from None


def main() -> None:
    """Run all cases that are not finished, and write the tables after each."""
    options = parsed()
    from accuracy_cases import Budget, Case, Settings, run_case
    from accuracy_data import DATA_SETS, Reader
    from accuracy_table import TABLE, write_results

    logging.getLogger("mmace").setLevel(logging.ERROR)  # the same warnings for every case
    every = options.epochs is None and options.steps is None and options.minutes is None
    budget = Budget(100 if every else options.epochs, options.steps, options.minutes)
    settings = Settings(
        budget, options.hidden, options.layers, options.r_max, options.l_mag, options.l_mag_nonsoc, options.dtype,
        options.batch_size,
        options.learning_rate, options.threads, not options.no_rotate, options.magnetic_scale,
        not options.no_magnetic_forces,
    )  # fmt: skip
    sets = _names(options.sets, DATA_SETS, "--sets")
    models = _names(options.models, MODELS, "--models")
    mace = None
    if options.mace is not None or "mace" in models:
        from speed import mace_python

        mace = mace_python(options.mace or _mace_folder())
        models = [*dict.fromkeys([*models, "mace"])]
    reader = Reader(options.data)
    cases, work, splits = [], [], []
    for name in sets:
        full = len(reader.split(name, None, 0).train)
        counts = [options.configurations or full]
        if options.learning_curve:
            asked = _numbers(options.learning_curve, "--learning-curve")
            counts = [count for count in asked if count <= full] + ([full] if max(asked) > full else [])
        for count in counts:
            for seed in _numbers(options.seeds, "--seeds"):
                split = reader.split(name, count, seed, options.magnetic_scale)
                atoms = sum(len(configuration) for configuration in split.train)
                epochs = budget.epochs_for(count, options.batch_size) or 1
                for model in ("labels", *models):
                    cases.append(Case(name, model, count, seed))
                    splits.append(split)
                    work.append(0.0 if model == "labels" else float(atoms * epochs))
    clock = Clock(cases, work, options.minutes)
    notes = {name: DATA_SETS[name].note for name in sets}
    results: list[dict[str, Any]] = []
    for index, (case, split) in enumerate(zip(cases, splits, strict=True)):
        title = f"[{index + 1}/{len(cases)}] {case.name}"

        def report(fraction: float, seconds: float, text: str, index: int = index, title: str = title) -> None:
            if time.monotonic() - clock.said > SAY_SECONDS or fraction >= 1:
                clock.said = time.monotonic()
                print(
                    f"{time.strftime('%H:%M:%S')} {title}: {text}; {clock.left(index, fraction, seconds)}", flush=True
                )

        try:
            result = run_case(case, split, settings, options.output / case.name, mace, report)
        except (UserError, RuntimeError, MemoryError) as error:
            if "other settings" in str(error):
                raise
            print(f"{title}: failed: {error}", flush=True)
            result = {**case.__dict__, "budget": str(budget), "failed": " ".join(str(error).split())[:200]}
        else:
            clock.finished(index, result["seconds"])
        results.append(result)
        write_results(results, notes, options.output)
    print(f"written: {options.output / TABLE}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from there")
