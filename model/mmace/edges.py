"""What an edge knows: radial functions of its length, and the angular geometry that its message needs [11, 15, 16].

Everything angular is free of the channel. One pass over the edges makes, per layer, the geometry G: polynomials of the
spherical harmonics of the edge and of the solid harmonics of the sender's moment, with all Clebsch–Gordan coefficients
inside. Native on the CPU, plain torch elsewhere.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mmace.graph import Graph
from mmace.harmonics import Program, SolidHarmonics
from mmace.native import accumulators, cut, kernel, library, pointer, pointers, run_parts, total
from mmace.native.function import Tensors, apply
from mmace.radial import AgnesiTransform, bessel, envelope

ONE, CUT, UNIT, MOMENTS = 0, 1, 2, 5  # registers of the kernel


@dataclass
class EdgeFeatures:
    """E = N·M edges in the padded layout. All but ``lengths`` vanish smoothly at r_max, and on padding."""

    lengths: Tensor  # [E] Å
    cut: Tensor  # [E] envelope
    bessel: Tensor  # [E, num_bessel] J
    geometry: tuple[Tensor, ...]  # per layer: G [E, columns]; the envelope is inside


class EdgeBasis(nn.Module):
    """`EdgeFeatures` of a graph. ``num_moments``: components of R(m), 0 without moments; ``geometry``: per layer the
    constant [(l_pos+1)²·max(num_moments, 1), columns]."""

    def __init__(
        self,
        r_max: float,
        l_pos: int,
        num_moments: int,
        num_bessel: int,
        geometry: Sequence[np.ndarray],
        transform: AgnesiTransform | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.r_max, self.num_bessel, self.num_moments = r_max, num_bessel, num_moments
        self.harmonics = SolidHarmonics(l_pos, dtype)
        self.transform: AgnesiTransform | None = transform
        for number, constant in enumerate(geometry):
            self.register_buffer(f"geometry_{number}", torch.tensor(constant, dtype=dtype), persistent=False)
        self.columns = [constant.shape[1] for constant in geometry]
        program, first = _program(l_pos, self.num_moments, geometry)
        self.steps, self.coefficients, self.registers = program.steps, program.coefficients, program.registers
        self.places = torch.tensor(list(zip(first, self.columns, strict=True)), dtype=torch.int64)

    def forward(self, graph: Graph, positions: Tensor, cell: Tensor, moments: Tensor | None) -> EdgeFeatures:
        """``positions`` [N,3] and ``cell`` [S,3,3], Å; ``moments`` R [N, (l_mag+1)²], None without moments."""
        if positions.device.type == "cpu" and library() is not None:
            lengths, cut, waves, *geometry = apply(_Edges(self, graph), positions, cell, moments)
            return EdgeFeatures(lengths, cut, waves, tuple(geometry))
        return self.reference(graph, positions, cell, moments)

    def reference(self, graph: Graph, positions: Tensor, cell: Tensor, moments: Tensor | None) -> EdgeFeatures:
        """The same in plain torch."""
        edges = self.uncoupled(graph, positions, cell)
        (angular,) = edges.geometry
        if moments is not None:
            angular = angular.unsqueeze(2) * moments.index_select(0, graph.senders.reshape(-1)).unsqueeze(1)
            angular = angular.flatten(1)
        geometry = [angular @ getattr(self, f"geometry_{number}") for number in range(len(self.columns))]
        return replace(edges, geometry=tuple(geometry))

    def uncoupled(self, graph: Graph, positions: Tensor, cell: Tensor) -> EdgeFeatures:
        """What positions alone give, in plain torch: in place of G stands the envelope times Y [E, (l_pos+1)²]."""
        nodes, width = graph.senders.shape
        senders = graph.senders.reshape(-1)
        vectors = (
            positions.index_select(0, senders).reshape(nodes, width, 3)
            - positions.unsqueeze(1)
            + torch.bmm(graph.shifts, cell.index_select(0, graph.structure))
        )
        padding = torch.zeros_like(vectors)
        padding[..., 2] = self.r_max
        vectors = torch.where(graph.real.unsqueeze(-1), vectors, padding).reshape(-1, 3)
        lengths = torch.sqrt((vectors * vectors).sum(-1))
        cut = envelope(lengths, self.r_max)
        distances = lengths
        if self.transform is not None:
            pair = graph.species.index_select(0, senders), graph.species.repeat_interleave(width)
            distances = self.transform(lengths, *pair)
        waves = bessel(distances, cut, self.r_max, self.num_bessel)
        angular = self.harmonics(vectors / lengths.unsqueeze(-1)) * cut.unsqueeze(-1)
        return EdgeFeatures(lengths, cut, waves, (angular,))


def _program(l_pos: int, num_moments: int, geometry: Sequence[np.ndarray]) -> tuple[Program, list[int]]:
    """The kernel's steps, and the first register of each layer's G."""
    program = Program(MOMENTS + num_moments)
    harmonics = program.add_harmonics(CUT, UNIT, l_pos)  # Y_0 is the envelope, which so is in every Y_l
    first = []
    for constant in geometry:
        out = program.allocate(constant.shape[1])
        for (row, column), c in np.ndenumerate(constant):
            y, m = divmod(row, max(num_moments, 1))
            program.add(harmonics[y], MOMENTS + m if m else ONE, out[column], c)
        first.append(out[0])
    return program, first


class _Edges:
    """The native pass for one graph."""

    parameters: tuple[int, ...] = ()

    def __init__(self, basis: EdgeBasis, graph: Graph) -> None:
        self.basis, self.graph = basis, graph

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        outputs = self._outputs(x[0])
        self._run(x, None, None, outputs, None)
        return tuple(outputs)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        sums = self._sums(x, wanted)
        self._run(x, None, g, None, sums)
        return [total(part) for part in sums]

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        sums = self._sums(x, wanted)
        outputs = self._outputs(x[0])
        self._run(x, v, g, outputs, sums)
        return outputs, [total(part) for part in sums]

    def _sums(self, x: Tensors, wanted: Sequence[bool]) -> list[list[Tensor] | None]:
        nodes = self.graph.senders.shape[0]
        return [
            accumulators(each, nodes) if want and each is not None else None
            for each, want in zip(x, wanted, strict=True)
        ]

    def _outputs(self, like: Tensor | None) -> list[Tensor]:
        assert like is not None
        edges, basis = self.graph.senders.numel(), self.basis
        return [like.new_empty(edges), like.new_empty(edges)] + [
            like.new_empty(edges, columns) for columns in (basis.num_bessel, *basis.columns)
        ]

    def _run(
        self,
        x: Tensors,
        v: Tensors | None,
        g: Tensors | None,
        outputs: Sequence[Tensor] | None,
        sums: Sequence[list[Tensor] | None] | None,
    ) -> None:
        basis, graph = self.basis, self.graph
        positions = x[0]
        assert positions is not None
        nodes, width = graph.senders.shape
        call = kernel("edges", positions)
        real = ctypes.c_float if positions.dtype == torch.float32 else ctypes.c_double
        transform: AgnesiTransform | None = basis.transform  # type: ignore[assignment]  # torch types modules loosely
        radii = None if transform is None else transform.radii
        constants = (real * 4)(basis.r_max, AgnesiTransform.A, AgnesiTransform.Q, AgnesiTransform.P)
        coefficients = basis.coefficients[positions.dtype]
        shifts = graph.shifts.contiguous()
        count = len(basis.columns)

        def per_edge(tensors: Tensors | None, edges: slice) -> ctypes.Array[ctypes.c_void_p]:
            parts = (
                [None if each is None else cut(each, edges) for each in tensors] if tensors else [None] * (3 + count)
            )
            later = pointers(*parts[3:])
            keep.append(later)
            return pointers(*parts[:3], ctypes.addressof(later))

        keep: list[object] = []

        def work(part: int, low: int, high: int) -> None:
            sizes = (ctypes.c_int64 * 8)(
                high - low,
                width,
                low,
                basis.num_bessel,
                basis.num_moments,
                len(coefficients),
                basis.registers,
                count,
            )
            edges, nodes_here = slice(low * width, high * width), slice(low, high)
            problem = pointers(
                ctypes.addressof(sizes),
                ctypes.addressof(constants),
                cut(graph.senders, nodes_here),
                graph.structure,
                graph.species,
                cut(graph.real, nodes_here),
                cut(shifts, nodes_here),
                radii,
                basis.steps,
                coefficients,
                basis.places,
            )
            call(
                problem,
                pointers(*x),
                pointers(*v) if v is not None else pointer(None),
                per_edge(g, edges),
                per_edge(outputs, edges),
                pointers(*([None if each is None else each[part] for each in sums] if sums else [None] * 3)),
            )

        run_parts(work, nodes)
