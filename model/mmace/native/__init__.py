"""Native kernels: C++ compiled on first use for this processor, with the plain torch versions as their reference.

The compiled library lies in the user's cache folder under a name made of the source, the compiler's flags and the
processor, so that a home folder shared between machines holds one library per kind of processor. Without a compiler, or
with MMACE_NATIVE=0, everything runs on plain torch: the same numbers, slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

HEADERS = tuple(Path(__file__).with_name(name) for name in ("lanes.h", "steps.h", "gemm.h"))
KERNELS = ("edges", "moments", "perceptron", "density", "element_sum", "message", "polynomial", "own_moment")
SOURCES = tuple(Path(__file__).with_name(f"{name}.cpp") for name in KERNELS)
# No -ffast-math: linked into a shared library it switches the whole process to flush denormals to zero.
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fopenmp-simd",
    "-Wno-psabi",  # about passing wide registers between libraries, which nothing here does
    "-fPIC",
    "-shared",
)
COMPILE_SECONDS = 300.0


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mmace"


def _processor() -> str:
    """What -march=native depends on."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith(("flags", "Features", "model name"))]
        return "".join(sorted(set(lines)))
    except OSError:
        return platform.processor() + platform.machine()


def _compiler() -> str | None:
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def _keep_memory() -> None:
    """Let glibc keep up to 1 GB of freed memory.

    Each evaluation allocates and frees the same megabytes. Given back to the system and faulted in again every time,
    they cost up to a third of the whole evaluation.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    libc = ctypes.CDLL(None)
    for parameter in (trim_threshold, mmap_threshold):
        libc.mallopt(parameter, 1 << 30)


_state = threading.local()


@contextmanager
def plain_torch() -> Iterator[None]:
    """No kernels in this thread: torch.func (vmap, grad) sees through its own operations only."""
    before = getattr(_state, "plain", False)
    _state.plain = True
    try:
        yield
    finally:
        _state.plain = before


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be had (said once in the log) or are not wanted."""
    return None if getattr(_state, "plain", False) else _compiled()


@cache
def _compiled() -> ctypes.CDLL | None:
    if os.environ.get("MMACE_NATIVE", "1") == "0":
        return None
    compiler = _compiler()
    key = hashlib.sha256(
        "\0".join([*(source.read_text() for source in (*HEADERS, *SOURCES)), *FLAGS, _processor()]).encode()
    ).hexdigest()[:16]
    target = _cache_folder() / f"kernels-{key}.so"
    try:
        if not target.exists():
            if compiler is None:
                logger.warning("no C++ compiler found: running on plain torch, several times slower; install g++")
                return None
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                built = Path(folder) / "kernels.so"
                command = [compiler, *FLAGS, "-o", str(built), *map(str, SOURCES)]
                code, said = _run(command, COMPILE_SECONDS)
                if code:
                    lines = said.strip().splitlines() or ["no message"]
                    reason = next((line for line in lines if "error" in line), lines[-1])
                    logger.warning("the native kernels do not compile (%s): running on plain torch, slower", reason)
                    return None
                os.replace(built, target)  # atomic: two processes may compile at once
        _keep_memory()
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("the native kernels cannot be used (%s): running on plain torch, slower", error)
        return None


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    """Exit status and messages of a compiler. Raises TimeoutExpired; what it has started ends with it in any case."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=seconds)
    except BaseException:  # a compiler is a driver whose stages, killed alone, it would leave behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, said


def kernel(name: str, like: Tensor) -> Any:
    """The function ``name`` for the floating-point type of ``like``."""
    return getattr(library(), f"{name}_{str(like.dtype).removeprefix('torch.')}")


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Address of the first number; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def pointers(*values: Tensor | int | None) -> ctypes.Array[ctypes.c_void_p]:
    """Addresses, of tensors or as they are, one after the other: a structure of pointers."""
    addresses = [value if value is None or isinstance(value, int) else value.data_ptr() for value in values]
    return (ctypes.c_void_p * len(addresses))(*addresses)


def cut(tensor: Tensor, rows: slice) -> Tensor:
    """``tensor[rows]``, without the price of a view where that is the whole."""
    return tensor if rows.start == 0 and rows.stop == tensor.shape[0] else tensor[rows]


def accumulators(like: Tensor, nodes: int) -> list[Tensor]:
    """Zeros like a tensor that all nodes add to, one per thread."""
    import torch

    return [torch.zeros_like(like) for _ in node_parts(nodes)]


def total(parts: list[Tensor] | None) -> Tensor | None:
    """Sum of the threads' accumulators; None where nothing was wanted."""
    import torch

    return None if parts is None else parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="mmace")


def node_parts(nodes: int) -> list[tuple[int, int]]:
    """Ranges of nodes, one per torch thread; small problems stay in one piece."""
    import torch

    threads = max(1, min(torch.get_num_threads(), nodes // 8))
    return [(nodes * part // threads, nodes * (part + 1) // threads) for part in range(threads)]


def run_parts(work: Callable[[int, int, int], None], nodes: int) -> None:
    """Call ``work(part, low, high)`` for each range of nodes, in threads (the kernels release the interpreter)."""
    parts = node_parts(nodes)
    if len(parts) == 1:
        work(0, *parts[0])
    else:
        list(_pool(len(parts)).map(lambda item: work(item[0], *item[1]), enumerate(parts)))
