"""Training curves for TensorBoard, from the same events as metrics.jsonl. Needs the package ``tensorboard``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmace.errors import UserError

FOLDER = "tensorboard"
LOSSES = {"loss": "loss/training", "valid_loss": "loss/validation"}
LEFT_OUT = ("epoch", "epochs", "best_epoch")


def require_tensorboard() -> None:
    """Raises `UserError` where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    except ImportError:
        raise UserError(
            "training: the TensorBoard log needs the package tensorboard; install it (the extra 'tensorboard' of this "
            "project), or leave the log out: metrics.jsonl has the same numbers"
        ) from None


class TensorBoardLog:
    """The folder ``tensorboard`` in the folder of a run. It always shows what metrics.jsonl has: epochs that a kill
    undid are gone, because the log is written anew when a run goes on."""

    def __init__(self, folder: Path, history: Iterable[dict[str, Any]] = ()) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder / FOLDER
        shutil.rmtree(self.folder, ignore_errors=True)
        self.writer = SummaryWriter(str(self.folder))
        for event in history:
            self._add(event)
        self.writer.flush()

    def add(self, event: dict[str, Any]) -> None:
        """One validated epoch."""
        self._add(event)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()

    def _add(self, event: dict[str, Any]) -> None:
        for tag, value in scalars(event).items():
            self.writer.add_scalar(tag, value, event["epoch"], walltime=event["seconds"])


def scalars(event: dict[str, Any]) -> dict[str, float]:
    """Numbers of one event by their tags: loss/training, loss/validation, validation/energy_rmse …, learning_rate."""
    found = {}
    for name, value in event.items():
        if name in LEFT_OUT or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        error = name.endswith(("_rmse", "_mae"))
        found[LOSSES.get(name, f"validation/{name}" if error else name)] = float(value)
    return found


def both(log: TensorBoardLog, progress: Callable[[dict[str, Any]], None] | None) -> Callable[[dict[str, Any]], None]:
    """Calls ``log.add`` and then ``progress``."""

    def called(event: dict[str, Any]) -> None:
        log.add(event)
        if progress is not None:
            progress(event)

    return called
