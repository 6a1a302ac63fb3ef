"""An atom's own moment meets its features [22]: the arithmetic, native on the CPU and in plain torch elsewhere.

out[n,c,k] = Σ_paths w[n,path,k] Σ_ab CG[path,a,b,c] R[n,a] μ[n,b,k]
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmace.native import cut, kernel, library, pointer, pointers, run_parts
from mmace.native.function import Tensors, apply


@dataclass(frozen=True)
class OwnMomentPath:
    """Where R_l, the components of μ and those of the result begin, and how they are coupled."""

    moment: int
    source: int
    target: int
    coupling: np.ndarray  # [a, b, c]


class OwnMomentSum(nn.Module):
    """The sum for a fixed list of paths. ``rows``: components of the result in all."""

    def __init__(self, paths: Sequence[OwnMomentPath], rows: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.paths, self.rows = list(paths), rows
        entries: list[tuple[int, int, int, int]] = []
        coefficients: list[float] = []
        for number, path in enumerate(self.paths):
            self.register_buffer(f"coupling_{number}", torch.tensor(path.coupling, dtype=dtype), persistent=False)
            for a, b, c in np.argwhere(np.abs(path.coupling) > 1e-12).tolist():
                entries.append((number, path.moment + a, path.source + b, path.target + c))
                coefficients.append(float(path.coupling[a, b, c]))
        self.entries = torch.tensor(entries, dtype=torch.int64)
        self.coefficients = {kind: torch.tensor(coefficients, dtype=kind) for kind in (torch.float32, torch.float64)}

    def forward(self, R: Tensor, w: Tensor, mu: Tensor) -> Tensor:
        """``R`` [N, (l_mag+1)²], ``w`` [N, paths, K], ``mu`` [N, inputs, K] → [N, rows, K]. Twice differentiable."""
        if R.device.type == "cpu" and library() is not None:
            return apply(_OwnMoment(self), R, w, mu)[0]
        return self.reference(R, w, mu)

    def reference(self, R: Tensor, w: Tensor, mu: Tensor) -> Tensor:
        """The same in plain torch."""
        out: dict[int, Tensor] = {}
        for number, path in enumerate(self.paths):
            coupling = getattr(self, f"coupling_{number}")
            a, b, c = coupling.shape
            matrix = (R[:, path.moment : path.moment + a] @ coupling.flatten(1)).reshape(-1, b, c)
            value = torch.bmm(matrix.transpose(1, 2), mu[:, path.source : path.source + b]) * w[:, number].unsqueeze(1)
            out[path.target] = out[path.target] + value if path.target in out else value
        return torch.cat([out[target] for target in sorted(out)], dim=1)


class _OwnMoment:
    """The native pass: inputs R, w and μ."""

    parameters: tuple[int, ...] = ()

    def __init__(self, owner: OwnMomentSum) -> None:
        self.owner = owner

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        out = self._new(x)
        self._run(x, None, None, out, [None] * 3)
        return (out,)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        results = self._results(x, wanted)
        self._run(x, None, g[0], None, results)
        return results

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        out, results = self._new(x), self._results(x, wanted)
        self._run(x, v, g[0], out, results)
        return (out,), results

    def _new(self, x: Tensors) -> Tensor:
        mu = x[2]
        assert mu is not None
        return mu.new_empty(len(mu), self.owner.rows, mu.shape[2])

    @staticmethod
    def _results(x: Tensors, wanted: Sequence[bool]) -> Tensors:
        return [
            torch.empty_like(each) if want and each is not None else None for each, want in zip(x, wanted, strict=True)
        ]

    def _run(self, x: Tensors, v: Tensors | None, g: Tensor | None, out: Tensor | None, results: Tensors) -> None:
        R, w, mu = x
        assert R is not None and w is not None and mu is not None
        entries, coefficients = self.owner.entries, self.owner.coefficients[mu.dtype]
        call = kernel("own_moment", mu)

        def work(part: int, low: int, high: int) -> None:
            here = slice(low, high)

            def rows(tensors: Tensors) -> ctypes.Array[ctypes.c_void_p]:
                return pointers(*(None if each is None else cut(each, here) for each in tensors))

            sizes = (ctypes.c_int64 * 7)(
                high - low, R.shape[1], w.shape[1], mu.shape[1], self.owner.rows, mu.shape[2], len(entries)
            )
            call(
                pointers(ctypes.addressof(sizes), entries, coefficients),
                rows(x),
                None if v is None else rows(v),
                pointer(None if g is None else cut(g, here)),
                pointer(None if out is None else cut(out, here)),
                rows(results),
            )

        run_parts(work, len(mu))
