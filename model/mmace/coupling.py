"""Which irreps exist under each symmetry, and the Clebsch–Gordan tensors that couple them.

One description serves all symmetries. A group of rotations is a product of one or two copies of O(3):

* ``soc``: joint rotations of positions and moments. An irrep is (l; t) with the time-reversal label t = ±1.
* ``nonsoc``: positions and moments turn independently. An irrep is (l, l'; t) and t = (−1)^l'.
* ``paper``: as soc without the label t, as the paper prints it.
* ``none``: no moments; irreps (l; +1). This is plain MACE.

Every block has natural parity, (−1)^l in each factor (moments count as polar, as in the paper). Natural parity together
with the label t makes E(−r, m) = E(r, m) and E(r, −m) = E(r, m) exact, because only t-even scalars reach a readout and
E(−r, −m) = E(r, m) holds by parity.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from mmace.harmonics import wigner_3j

SYMMETRIES = ("soc", "nonsoc", "paper", "none")


@dataclass(frozen=True, order=True)
class Irrep:
    """An irreducible representation: one degree per factor of the group, and the time-reversal label."""

    degrees: tuple[int, ...]
    time: int = 1

    @property
    def dim(self) -> int:
        """Number of components, the product of 2l+1."""
        return int(np.prod([2 * degree + 1 for degree in self.degrees]))


@dataclass(frozen=True)
class SymmetryRules:
    """How positions and moments enter the group."""

    name: str

    @property
    def magnetic(self) -> bool:
        """Whether moments are inputs."""
        return self.name != "none"

    @property
    def factors(self) -> int:
        """Copies of O(3)."""
        return 2 if self.name == "nonsoc" else 1

    def position(self, degree: int) -> Irrep:
        """Irrep of Y_l(r)."""
        return Irrep((degree, 0) if self.factors == 2 else (degree,))

    def moment(self, degree: int) -> Irrep:
        """Irrep of R_l(m). Odd under time reversal for odd l; the paper's form keeps no such label."""
        time = 1 if self.name == "paper" else (-1) ** degree
        return Irrep((0, degree) if self.factors == 2 else (degree,), time)


def couples(a: Irrep, b: Irrep, out: Irrep) -> bool:
    """Triangle rule, natural parity in every factor and time reversal."""
    return a.time * b.time == out.time and all(
        abs(x - y) <= z <= x + y and (x + y + z) % 2 == 0
        for x, y, z in zip(a.degrees, b.degrees, out.degrees, strict=True)
    )


def products(a: Irrep, b: Irrep, l_max: tuple[int, ...]) -> Iterator[Irrep]:
    """All natural-parity irreps in a ⊗ b with degrees up to ``l_max`` in each factor."""
    ranges = [range(abs(x - y), min(x + y, top) + 1, 2) for x, y, top in zip(a.degrees, b.degrees, l_max, strict=True)]
    for degrees in itertools.product(*ranges):
        yield Irrep(degrees, a.time * b.time)


@cache
def clebsch_gordan(a: tuple[int, ...], b: tuple[int, ...], out: tuple[int, ...]) -> np.ndarray:
    """Coupling tensor [dim a, dim b, dim out], the product of the factors' Wigner 3j symbols.

    Scaled so that inputs with components of unit variance give outputs with components of unit variance.
    """
    tensor = np.ones((1, 1, 1))
    for x, y, z in zip(a, b, out, strict=True):
        factor = wigner_3j(x, y, z) * np.sqrt(2 * z + 1)
        tensor = np.einsum("abc,xyz->axbycz", tensor, factor).reshape(
            tensor.shape[0] * factor.shape[0], tensor.shape[1] * factor.shape[1], tensor.shape[2] * factor.shape[2]
        )
    return tensor


@dataclass(frozen=True)
class SymmetricProduct:
    """Generalised Clebsch–Gordan coefficients [19] on unique monomials.

    ``monomials`` [P, order]: indices of the multiplied components, non-decreasing.
    ``coefficients`` [couplings, dim out, P].
    """

    monomials: np.ndarray
    coefficients: np.ndarray


def _coupling_trees(blocks: tuple[Irrep, ...], out: Irrep) -> Iterator[np.ndarray]:
    """Tensors [dim_1, …, dim_ν, dim out] of all ways to couple the blocks, in their order, to ``out``."""
    if len(blocks) == 1:
        if blocks[0] == out:
            yield np.eye(out.dim)
        return
    # (intermediate degrees, tensor so far); intermediates may have unnatural parity, only the end must be natural
    partial: list[tuple[tuple[int, ...], np.ndarray]] = [(blocks[0].degrees, np.eye(blocks[0].dim))]
    for position, block in enumerate(blocks[1:], start=1):
        last = position == len(blocks) - 1
        grown = []
        for degrees, tensor in partial:
            ranges = [range(abs(x - y), x + y + 1) for x, y in zip(degrees, block.degrees, strict=True)]
            for target in itertools.product(*ranges):
                if last and target != out.degrees:
                    continue
                step = clebsch_gordan(degrees, block.degrees, target)
                grown.append((target, np.tensordot(tensor, step, axes=(-1, 0))))
        partial = grown
    for _, tensor in partial:
        yield tensor


def _independent(rows: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the span of the rows, by Gram–Schmidt in the given order.

    Deliberately not a library factorisation: the basis is part of the meaning of stored weights, so that it must be the
    same on every machine.
    """
    basis: list[np.ndarray] = []
    for row in rows:
        length = np.linalg.norm(row)
        if length < 1e-10:
            continue
        rest = row / length
        for _ in range(2):
            for vector in basis:
                rest = rest - (vector @ rest) * vector
        norm = np.linalg.norm(rest)
        if norm > 1e-6:
            basis.append(rest / norm)
    return np.array(basis).reshape(len(basis), rows.shape[1])


@cache
def symmetric_product(blocks: tuple[Irrep, ...], order: int, out: Irrep) -> SymmetricProduct:
    """A basis of all equivariant, permutation-symmetric maps from ``order`` copies of ⊕ blocks to ``out``.

    Components are numbered through the blocks in their order.
    """
    starts = np.cumsum([0] + [block.dim for block in blocks])
    columns: dict[tuple[int, ...], int] = {}
    found: list[tuple[list[int], np.ndarray]] = []
    for chosen in itertools.combinations_with_replacement(range(len(blocks)), order):
        members = tuple(blocks[index] for index in chosen)
        if np.prod([member.time for member in members]) != out.time:
            continue
        parity = np.sum([member.degrees for member in members], axis=0) - np.array(out.degrees)
        if np.any(parity % 2):
            continue
        trees = list(_coupling_trees(members, out))
        if not trees:
            continue
        grid = np.meshgrid(*[starts[index] + np.arange(blocks[index].dim) for index in chosen], indexing="ij")
        indices = np.sort(np.stack([axis.reshape(-1) for axis in grid], axis=-1), axis=-1)
        monomials, inverse, multiplicity = np.unique(indices, axis=0, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
        rows = np.zeros((len(trees), out.dim, len(monomials)))
        for number, tree in enumerate(trees):
            for component in range(out.dim):
                np.add.at(rows[number, component], inverse, tree[..., component].reshape(-1))
        # Norm of the symmetric tensor behind the monomials: each coefficient is shared by its permutations.
        weight = np.sqrt(multiplicity)
        basis = _independent((rows / weight).reshape(len(trees), -1)).reshape(-1, out.dim, len(monomials)) * weight
        basis *= np.sqrt(out.dim)
        used = np.flatnonzero(np.abs(basis).max(axis=(0, 1), initial=0.0) > 1e-12)
        if len(basis) == 0:
            continue
        mapped = [columns.setdefault(tuple(int(i) for i in monomials[p]), len(columns)) for p in used]
        found.append((mapped, basis[:, :, used]))
    coefficients = np.zeros((sum(len(basis) for _, basis in found), out.dim, len(columns)))
    row = 0
    for mapped, basis in found:
        coefficients[row : row + len(basis), :, mapped] = basis
        row += len(basis)
    return SymmetricProduct(np.array(list(columns), dtype=np.int64).reshape(-1, order), coefficients)
