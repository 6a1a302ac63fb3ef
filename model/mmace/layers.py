"""The steps of one layer: edge message, many-body product, own moment.

Node features of one irrep are tensors [N, dim, K]; K is the number of channels. E = N·M edges in the padded layout of
`mmace.graph`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmace.coupling import Irrep, SymmetryRules, clebsch_gordan, couples, products, symmetric_product
from mmace.message import MessagePath, MessageSum
from mmace.polynomial import SparsePolynomial
from mmace.radial import MLP

Features = dict[Irrep, Tensor]


def _normal(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator, dtype=dtype))


@dataclass(frozen=True)
class _Path:
    """One way from (l1 of the edge, l'' of the sender's moment, a feature of the sender) to a block of A."""

    source: Irrep
    target: Irrep
    position_path: int  # index of the radial function P
    moment_path: int  # index of the radial function K
    geometry: np.ndarray  # [(l_pos+1)²·(l_mag+1)², dim source · dim target]


def _message_paths(
    rules: SymmetryRules, sources: Sequence[Irrep], l_pos: int, l_mag: int
) -> tuple[list[_Path], int, int]:
    """All paths of [15, 16] (soc, paper), [E2–E4] (nonsoc) or plain MACE (none); numbers of P and K functions."""
    position_keys: dict[tuple, int] = {}
    moment_keys: dict[tuple, int] = {}
    paths = []
    top = (l_pos, l_mag) if rules.factors == 2 else (l_pos,)
    rows_y, rows_r = (l_pos + 1) ** 2, (l_mag + 1) ** 2
    for source in sources:
        for l1 in range(l_pos + 1):
            for middle in products(rules.position(l1), source, top):
                p = position_keys.setdefault((l1, source, middle), len(position_keys))
                first = clebsch_gordan(rules.position(l1).degrees, source.degrees, middle.degrees)
                for l2 in range(l_mag + 1):
                    moment = rules.moment(l2)
                    for target in products(moment, middle, top):
                        q = moment_keys.setdefault((middle, l2, target), len(moment_keys))
                        second = clebsch_gordan(middle.degrees, moment.degrees, target.degrees)
                        tensor = np.einsum("yac,crb->yrab", first, second)
                        full = np.zeros((rows_y, rows_r, source.dim, target.dim))
                        full[l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2] = tensor
                        geometry = full.reshape(rows_y * rows_r, -1)
                        paths.append(_Path(source, target, p, q, geometry))
    paths.sort(key=lambda path: (path.target.time < 0, path.target.degrees, path.source))
    return paths, len(position_keys), len(moment_keys)


class EdgeMessage(nn.Module):
    """A_i = Σ_j φ'_ji [13–18], density-normalised.

    The two Clebsch–Gordan steps [15, 16] are merged into one constant tensor per path. Everything angular is then free
    of the channel: a geometry tensor G[edge, path, m, m'] meets one weight P·K[edge, path, channel], and the sum over
    neighbours and paths is one step, `mmace.message`.
    """

    geometry: Tensor
    average_neighbors: Tensor

    def __init__(
        self,
        rules: SymmetryRules,
        sources: Sequence[Irrep],
        channels: int,
        l_pos: int,
        l_mag: int,
        num_bessel: int,
        num_chebyshev: int,
        radial_hidden: Sequence[int],
        density_normalization: bool,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.magnetic = rules.magnetic
        l_mag = l_mag if rules.magnetic else 0
        paths, self.num_position, self.num_moment = _message_paths(rules, sources, l_pos, l_mag)
        per_target = {path.target: sum(other.target == path.target for other in paths) for path in paths}
        self.blocks = tuple(per_target)
        target_starts = dict(zip(per_target, np.cumsum([0] + [irrep.dim for irrep in per_target]), strict=False))
        source_starts = dict(zip(sources, np.cumsum([0] + [irrep.dim for irrep in sources]), strict=False))
        constants = [path.geometry / math.sqrt(per_target[path.target]) for path in paths]
        geometry_starts = np.cumsum([0] + [constant.shape[1] for constant in constants])
        self.sum = MessageSum(
            [
                MessagePath(
                    path.position_path,
                    path.moment_path,
                    int(source_starts[path.source]),
                    path.source.dim,
                    int(target_starts[path.target]),
                    path.target.dim,
                    int(start),
                )
                for path, start in zip(paths, geometry_starts, strict=False)
            ],
            sum(irrep.dim for irrep in per_target),
        )
        self.sources = tuple(sources)
        self.register_buffer("geometry", torch.tensor(np.concatenate(constants, axis=1), dtype=dtype), persistent=False)
        inputs = num_bessel + (num_chebyshev if rules.magnetic else 0)
        sizes = [inputs, *radial_hidden]
        self.radial_position = MLP([*sizes, self.num_position * channels], generator, dtype)
        if rules.magnetic:
            self.radial_moment = MLP([*sizes, self.num_moment * channels], generator, dtype)
        self.density = MLP([num_bessel, 16, 1], generator, dtype) if density_normalization else None
        self.register_buffer("average_neighbors", torch.tensor(1.0, dtype=dtype))

    def forward(
        self,
        features: Features,  # of the senders, {irrep: [N, dim, K]}
        harmonics: Tensor,  # [E, (l_pos+1)²]
        solid: Tensor,  # [N, (l_mag+1)²] R_l(m)
        bessel: Tensor,  # [E, num_bessel] J
        chebyshev: Tensor,  # [N, num_chebyshev] T
        cut: Tensor,  # [E] envelope
        senders: Tensor,  # [N, M]
        real: Tensor,  # [N, M]
    ) -> Tensor:
        """A [N, C, K]: the blocks of ``self.blocks`` one after the other."""
        nodes, width = senders.shape
        edges = nodes * width
        flat = senders.reshape(-1)
        moment = None
        if self.magnetic:
            inputs = torch.cat([bessel, chebyshev.index_select(0, flat)], dim=1)
            angular = (harmonics.unsqueeze(2) * solid.index_select(0, flat).unsqueeze(1)).reshape(edges, -1)
            moment = self.radial_moment(inputs).reshape(edges, self.num_moment, self.channels)
        else:
            inputs, angular = bessel, harmonics
        # P and K do not vanish at r_max, because T does not: the envelope once on the product makes the message vanish.
        position = (self.radial_position(inputs) * cut.unsqueeze(1)).reshape(edges, self.num_position, self.channels)
        sent = torch.cat([features[irrep] for irrep in self.sources], dim=1)
        message = self.sum(angular @ self.geometry, position, moment, sent, senders, real)
        if self.density is None:
            return message / self.average_neighbors
        density = torch.tanh(self.density(bessel).squeeze(1) ** 2) * cut
        return message / (1.0 + density.reshape(nodes, width).sum(1))[:, None, None]


class ManyBodyProduct(nn.Module):
    """μ_i: products of A up to the correlation order, coupled and mixed per element [19, 20]."""

    coupling: Tensor  # [T, H] from couplings to the terms of the polynomials

    def __init__(
        self,
        blocks: Sequence[Irrep],
        outputs: Sequence[Irrep],
        channels: int,
        correlation: int,
        num_elements: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.blocks, self.outputs = tuple(blocks), tuple(outputs)
        self.mix = nn.ParameterList(_normal(generator, dtype, channels, channels) for _ in blocks)
        # Columns of `coupling` are all (output irrep, order, coupling); rows are all (output component, monomial).
        terms: list[np.ndarray] = []
        entries: list[tuple[int, int, float]] = []
        row = column = 0
        for out in self.outputs:
            bases = [symmetric_product(self.blocks, order, out) for order in range(1, correlation + 1)]
            starts = np.cumsum([column] + [basis.coefficients.shape[0] for basis in bases])
            for component in range(out.dim):
                part = []
                for order, (basis, start) in enumerate(zip(bases, starts, strict=False), start=1):
                    norm = math.sqrt(max(basis.coefficients.shape[0], 1))
                    for number, monomial in enumerate(basis.monomials.tolist()):
                        values = basis.coefficients[:, component, number]
                        used = np.flatnonzero(values)
                        if len(used):
                            entries += [(row, start + int(h), float(values[h]) / norm) for h in used]
                            part.append([*monomial, *[-1] * (3 - order)])
                            row += 1
                terms.append(np.array(part, dtype=np.int64).reshape(-1, 3))
            column = int(starts[-1])
        self.polynomial = SparsePolynomial(terms)
        matrix = torch.zeros(row, column, dtype=dtype)
        for i, j, value in entries:
            matrix[i, j] = value
        self.register_buffer("coupling", matrix, persistent=False)
        self.weights = _normal(generator, dtype, num_elements, column, channels)

    def forward(self, a: Tensor, species: Tensor) -> Features:
        """``a``: the blocks of A one after the other [N, C, K]; ``species`` [N] → {irrep: [N, dim, K]}."""
        norm = 1.0 / math.sqrt(a.shape[-1])
        blocks = a.split([irrep.dim for irrep in self.blocks], dim=1)
        mixed = torch.cat([block @ (w * norm) for block, w in zip(blocks, self.mix, strict=True)], dim=1)
        out = self.polynomial(mixed, torch.matmul(self.coupling, self.weights), species)
        return dict(zip(self.outputs, out.split([irrep.dim for irrep in self.outputs], dim=1), strict=True))


class OwnMoment(nn.Module):
    """μ̃_i = Σ CG · MLP(T_i) · R_l(m_i) · μ_i [21, 22], projected to the hidden irreps only after the coupling.

    μ carries degrees up to l_mag here: cut to scalars before it meets R_l(m_i), the term m_i·m_j would be lost.
    """

    def __init__(
        self,
        rules: SymmetryRules,
        inputs: Sequence[Irrep],
        outputs: Sequence[Irrep],
        channels: int,
        l_mag: int,
        num_chebyshev: int,
        num_elements: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.channels, self.num_elements = channels, num_elements
        self.paths: list[tuple[int, Irrep, Irrep]] = [
            (degree, source, target)
            for target in outputs
            for degree in range(l_mag + 1)
            for source in inputs
            if couples(rules.moment(degree), source, target)
        ]
        for number, (degree, source, target) in enumerate(self.paths):
            tensor = clebsch_gordan(rules.moment(degree).degrees, source.degrees, target.degrees)
            self.register_buffer(f"coupling_{number}", torch.tensor(tensor, dtype=dtype), persistent=False)
        self.radial = MLP([num_chebyshev + num_elements, 64, len(self.paths) * channels], generator, dtype)

    @staticmethod
    def needed(rules: SymmetryRules, hidden: Sequence[Irrep], l_mag: int) -> list[Irrep]:
        """Irreps that μ must carry so that each R_l(m_i) reaches each hidden irrep."""
        top = max(l_mag, max(irrep.degrees[0] for irrep in hidden))
        tops = (top, l_mag) if rules.factors == 2 else (top,)
        found = list(hidden)
        for target in hidden:
            for degree in range(l_mag + 1):
                for irrep in products(rules.moment(degree), target, tops):
                    if irrep not in found:
                        found.append(irrep)
        return found

    def forward(self, features: Features, solid: Tensor, chebyshev: Tensor, species: Tensor) -> Features:
        """μ as {irrep: [N, dim, K]}, ``solid`` [N, (l_mag+1)²], ``chebyshev`` [N, n] → μ̃ as {irrep: [N, dim, K]}."""
        element = nn.functional.one_hot(species, self.num_elements).to(chebyshev.dtype)
        radial = self.radial(torch.cat([chebyshev, element], dim=1))
        weights = radial.reshape(-1, len(self.paths), self.channels).unbind(1)
        out: Features = {}
        for number, (degree, source, target) in enumerate(self.paths):
            moment = solid[:, degree**2 : (degree + 1) ** 2]
            matrix = torch.einsum("na,abc->nbc", moment, getattr(self, f"coupling_{number}"))
            value = torch.bmm(matrix.transpose(1, 2), features[source]) * weights[number].unsqueeze(1)
            out[target] = out[target] + value if target in out else value
        return out
