"""One process of a training on several, for the tests: reads what to do from a JSON file, writes what came of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch

from mmace import PotentialConfig, model_hash
from mmace.errors import UserError
from mmace.train import TrainingConfig, read_configurations, run, train
from mmace.train.shards import open_shards


def main(task: dict) -> dict:
    """Trains as ``task`` says; with ``signal_at`` this rank sends itself SIGTERM within that step."""
    torch.set_num_threads(1)
    rank = int(os.environ.get("RANK", 0))
    read = open_shards if Path(task["data"]).is_dir() else read_configurations
    data = read(task["data"])
    half = task["training"]
    if task.get("signal_at") and rank == task["signal_rank"]:
        step, count = run.Run._step, 0

        def counted(self, batch, rate):
            nonlocal count
            count += 1
            if count == task["signal_at"]:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, batch, rate)

        run.Run._step = counted
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    events: list[dict] = []
    try:
        result = train(
            PotentialConfig(**task["potential"]),
            TrainingConfig(**task["config"]),
            data[:half],
            data[half:],
            task["folder"],
            progress=events.append,
        )
    except KeyboardInterrupt as stop:
        return {"stopped": str(stop)}
    except UserError as error:
        return {"error": str(error), "kind": type(error).__name__}
    return {"hash": model_hash(result.model), "events": len(events), "history": result.history}


if __name__ == "__main__":
    outcome = main(json.loads(Path(sys.argv[1]).read_text()))
    Path(f"{sys.argv[1]}.{os.environ.get('RANK', 0)}").write_text(json.dumps(outcome))
