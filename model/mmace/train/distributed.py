"""Several processes, one training: started by torchrun, each works on its share of every batch.

Gradients are summed by one `all_reduce` after `backward`. The loss of a share is divided by the counts of the whole
batch, so the sum is the gradient of the whole batch, however unequal the shares are. (DistributedDataParallel reduces
within `backward`, and forces in the loss need a second one through it.)
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from mmace.errors import SaidElsewhere, UserError

TIMEOUT = timedelta(minutes=30)  # as long may one process read data while the others wait


class Processes:
    """The processes of one training, and what they say to each other. A single process needs no torchrun.

    All processes must call the methods in the same order; each returns the same on all of them.
    Raises `UserError` where another process is gone.
    """

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank, self.count, self.device = rank, count, device

    @property
    def leads(self) -> bool:
        """Is this the one process that writes and reports?"""
        return self.rank == 0

    def sum(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Sums over the processes, float64, of an array of the same shape in each."""
        array = np.asarray(values, dtype=np.float64)
        if self.count == 1:
            return array
        tensor = torch.tensor(array, dtype=torch.float64, device=self.device)
        with _peers():
            dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    def any(self, flag: bool) -> bool:
        """Is it so for any of the processes?"""
        return flag if self.count == 1 else bool(self.sum([float(flag)])[0] > 0)

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: torch.Tensor) -> float:
        """Sums the gradients over the processes, in place, and returns the sum of the losses.

        A parameter that has a gradient in no process is left without.
        """
        if self.count == 1:
            return float(loss.detach())
        parts = [
            torch.zeros(p.numel(), dtype=torch.float64, device=self.device)
            if p.grad is None
            else p.grad.to(torch.float64).reshape(-1)
            for p in parameters
        ]
        known = torch.tensor([float(p.grad is not None) for p in parameters], dtype=torch.float64, device=self.device)
        numbers = torch.cat([*parts, known, loss.detach().to(torch.float64).reshape(1)])
        with _peers():
            dist.all_reduce(numbers)
        sizes = [*(p.numel() for p in parameters), len(parameters), 1]
        *sums, known, total = numbers.split(sizes)
        for parameter, gradient, has in zip(parameters, sums, known.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if has else None
        return float(total)

    @torch.no_grad()
    def share_weights(self, module: nn.Module) -> None:
        """Gives every process the numbers of rank 0."""
        if self.count == 1:
            return
        for tensor in module.state_dict().values():
            moved = tensor.detach().to(self.device).contiguous()
            with _peers():
                dist.broadcast(moved, 0)
            tensor.copy_(moved)

    def share_bytes(self, data: bytes | None) -> bytes | None:
        """What rank 0 has as ``data``; the other processes give None."""
        if self.count == 1:
            return data
        length = torch.tensor([-1 if data is None else len(data)], device=self.device)
        with _peers():
            dist.broadcast(length, 0)
        if int(length) < 0:
            return None
        buffer = torch.zeros(int(length), dtype=torch.uint8)
        if self.leads and data:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        buffer = buffer.to(self.device)
        with _peers():
            dist.broadcast(buffer, 0)
        return buffer.cpu().numpy().tobytes()

    def wait(self) -> None:
        """Goes on when all processes are here."""
        self.any(False)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What one process is refused within the block ends all of them after it, with one message."""
        problem: UserError | None = None
        try:
            yield
        except UserError as error:
            problem = error
        if self.count == 1:
            if problem is not None:
                raise problem
            return
        first = self._first_rank(problem is not None)
        if first is None:
            return
        said = self._text_of(first, str(problem) if problem is not None else "")
        cause = problem and (problem.__cause__ or problem)
        raise (UserError if self.leads else SaidElsewhere)(said) from cause

    def _first_rank(self, refused: bool) -> int | None:
        flags = np.zeros(self.count)
        flags[self.rank] = float(refused)
        ranks = np.flatnonzero(self.sum(flags))
        return int(ranks[0]) if len(ranks) else None

    def _text_of(self, rank: int, text: str) -> str:
        data = np.frombuffer(text.encode()[:2000].ljust(2000), dtype=np.uint8).astype(float)
        return (
            bytes(self.sum(data if rank == self.rank else 0.0 * data).astype(np.uint8)).decode(errors="ignore").strip()
        )


def launched_rank() -> int:
    """Number of this process among those that torchrun has started; 0 without torchrun."""
    return int(os.environ["RANK"]) if _launched() else 0


def join_processes(device: str = "auto") -> Processes:
    """This process as one of those that torchrun has started, or on its own.

    Parameters: ``device`` as in `TrainingConfig`. With CUDA each process takes the GPU of its number on its machine.
    Raises `UserError` for cuda without a GPU, or with fewer GPUs than processes on a machine.
    """
    if not _launched():
        return Processes(0, 1, find_device(device))
    chosen = find_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        with _peers():
            dist.init_process_group(backend, timeout=TIMEOUT)
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size(), chosen)


def _launched() -> bool:
    given = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return given and int(os.environ["WORLD_SIZE"]) > 1


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name, "auto" included. Raises `UserError` where there is none."""
    available = torch.cuda.is_available()
    if name == "cpu" or (name == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise UserError("training: device is cuda, but torch sees no GPU; set device to auto or cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"training: {torch.cuda.device_count()} GPU(s) on this machine, but a process number {local_rank}; "
            f"start at most one process per GPU (--nproc-per-node)"
        )
    return torch.device("cuda", local_rank)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """One line where torch tells at length that another process is gone."""
    try:
        yield
    except RuntimeError as error:  # torch has no kind of its own for it on every backend
        reason = re.sub(r"^\[[^]]*\] *", "", " ".join(str(error).split())).split(". ")[0][:100]
        raise UserError(
            f"training: another process of this run does not answer ({reason}); "
            f"start the same command again: it goes on from the last written state"
        ) from error


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
