"""The node's steps of one layer: many-body product and own moment. Tensors are [N, components, K] with K channels."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmace.coupling import Irrep, SymmetryRules, clebsch_gordan, couples, products, symmetric_product
from mmace.kept import Kept
from mmace.own_moment import OwnMomentPath, OwnMomentSum
from mmace.polynomial import SparsePolynomial, Term
from mmace.radial import MLP, normal

logger = logging.getLogger("mmace")

MANY_COMPONENTS = 200  # of A; nonsoc has (l_pos+1)²·(l_mag+1)²


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
        self.mix = normal(generator, dtype, len(blocks), channels, channels)  # of A's channels, by the message
        components = sum(block.dim for block in blocks)
        if correlation == 3 and components > MANY_COMPONENTS:
            logger.warning(
                "products of three of %d components: setting up takes minutes, and each step is slow; "
                "with symmetry = nonsoc, l_mag = 1 is usual",
                components,
            )
        # Columns of `coupling` are all (output irrep, order, coupling); rows are all (output component, monomial).
        terms: list[list[Term]] = []
        entries: list[tuple[int, int, float]] = []
        row = column = 0
        for out in self.outputs:
            bases = [symmetric_product(self.blocks, order, out) for order in range(1, correlation + 1)]
            starts = np.cumsum([column] + [basis.coefficients.shape[0] for basis in bases])
            for component in range(out.dim):
                part: dict[Term, list[tuple[int, float]]] = {}
                for basis, start in zip(bases, starts, strict=False):
                    norm = math.sqrt(max(basis.coefficients.shape[0], 1))
                    for number, monomial in enumerate(basis.monomials.tolist()):
                        values = basis.coefficients[:, component, number]
                        used = np.flatnonzero(values)
                        if len(used):
                            first, second, third = (*monomial, -1, -1)[:3]
                            part[first, second, third] = [(start + int(h), float(values[h]) / norm) for h in used]
                terms.append(sorted(part))
                for term in terms[-1]:
                    entries += [(row, h, value) for h, value in part[term]]
                    row += 1
            column = int(starts[-1])
        self.polynomial = SparsePolynomial(terms)
        matrix = torch.zeros(row, column, dtype=dtype)
        for i, j, value in entries:
            matrix[i, j] = value
        self.register_buffer("coupling", matrix, persistent=False)
        self.weights = normal(generator, dtype, num_elements, column, channels)
        self._kept = Kept()

    def forward(self, mixed: Tensor, species: Tensor) -> Tensor:
        """``mixed``: the blocks of A one after the other [C, N, K]; ``species`` [N] → μ [N, all outputs, K]."""
        if self.weights.shape[0] > 1:  # only of the elements that are there
            kinds, species = torch.unique(species, return_inverse=True)
            terms = self._terms(tuple(kinds.tolist()))
        else:
            terms = self._terms((0,))
        out: Tensor = self.polynomial(mixed, terms, species)
        return out

    def _terms(self, kinds: tuple[int, ...]) -> Tensor:
        """Coefficients of the polynomials [len(kinds), T, K] of these elements."""
        return self._kept([self.weights], kinds, lambda: torch.stack([self.coupling @ self.weights[z] for z in kinds]))


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
        self.channels = channels
        sources, targets = _starts(inputs), _starts(outputs)
        paths = [
            OwnMomentPath(
                degree**2,
                sources[source],
                targets[target],
                clebsch_gordan(rules.moment(degree).degrees, source.degrees, target.degrees),
            )
            for target in outputs
            for degree in range(l_mag + 1)
            for source in inputs
            if couples(rules.moment(degree), source, target)
        ]
        self.sum = OwnMomentSum(paths, sum(irrep.dim for irrep in outputs), dtype)
        self.radial = MLP([num_chebyshev + num_elements, 64, len(paths) * channels], generator, dtype)

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

    def weights(self, chebyshev: Tensor, species: Tensor) -> Tensor:
        """MLP(T_i, Z_i) [N, paths, K] of ``chebyshev`` [N, n] [21]."""
        return self.radial.of_kind(chebyshev, species).unflatten(1, (-1, self.channels))

    def forward(self, mu: Tensor, solid: Tensor, weights: Tensor) -> Tensor:
        """μ [N, components, K], ``solid`` [N, (l_mag+1)²], `weights` → μ̃ [N, components of outputs, K]."""
        out: Tensor = self.sum(solid, weights, mu)
        return out


def by_element(x: Tensor, weights: Tensor, species: Tensor) -> Tensor:
    """``x`` [N, dim, K] times the matrix of each atom's element, ``weights`` [elements,K,K]."""
    kinds = torch.unique(species) if weights.shape[0] > 1 else species[:1]
    if len(kinds) == 1:
        return (x.flatten(0, 1) @ weights.index_select(0, kinds).squeeze(0)).view_as(x)
    order = torch.argsort(species, stable=True)
    parts = x.index_select(0, order).split(torch.bincount(species)[kinds].tolist())
    products = [part.flatten(0, 1) @ weights[kind] for part, kind in zip(parts, kinds, strict=True)]
    return torch.cat(products).view_as(x).index_select(0, torch.argsort(order))


def _starts(irreps: Sequence[Irrep]) -> dict[Irrep, int]:
    """Of each irrep's components, one after the other."""
    return dict(zip(irreps, itertools.accumulate([0] + [irrep.dim for irrep in irreps]), strict=False))
