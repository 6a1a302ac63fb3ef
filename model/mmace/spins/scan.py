"""Energies of one structure for many rigid rotations of all its moments: the anisotropy scan.

Lengths of moments and everything of positions stay as they are: radial functions, spherical harmonics, and in the first
layer even the sum over neighbours are computed once. With R_l(Q·m) = D_l(Q)·R_l(m) the sums

    V[i; path, y, r, k] = Σ_j Y_y(r_ji) R_r(m_j) (radial weight)_k,      then weighted, normalised and mixed,

give A of every rotation by a small matrix product, A(Q) = (CG · D(Q)) V, one per rotation and not per edge; later
layers sum the images of each neighbour first (`mmace.spins.pairs`). As a function of the rotation the energy is smooth:
where a few rotations decide all others (`mmace.spins.directions`), only those are computed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mmace.coupling import Irrep
from mmace.errors import UserError
from mmace.graph import Graph, build_graph, vector_moments
from mmace.harmonics import rotation_matrices
from mmace.messages import ElementMessage, FeatureMessage, Features
from mmace.potential import Layer, Potential
from mmace.spins.directions import RotationFunctions, from_few
from mmace.spins.pairs import PairSums
from mmace.spins.polynomials import polynomials

BATCH_NODES = 2000  # copies of atoms worked on at once
PROBES = 8  # rotations at which rounding is measured


def rotation_energies(
    model: Potential, atoms: Atoms, rotations: np.ndarray | Tensor, *, head: int = 0, batch_nodes: int = BATCH_NODES
) -> np.ndarray:
    """Energies [B], eV, with all moments (N,3) of ``atoms`` turned by each of ``rotations`` [B,3,3].

    The same numbers as one evaluation each: those that are fitted to others agree within 1e-6 of the energies' spread,
    or within their rounding where that is larger; a check on values held back from the fit sees to it. Raises
    UserError for a model without moments or for matrices that are not orthogonal.
    """
    if not model.config.rules.magnetic:
        raise UserError("rotation of moments: this model has no moments (symmetry = none)")
    dtype, device = model.config.torch_dtype, next(model.parameters()).device
    turns = torch.as_tensor(np.asarray(rotations), dtype=torch.float64).reshape(-1, 3, 3)
    identity = torch.eye(3, dtype=turns.dtype).expand_as(turns)
    if not torch.allclose(turns @ turns.transpose(1, 2), identity, atol=1e-6):
        raise UserError("rotation of moments: rotations must be orthogonal matrices [B,3,3]")
    graph = build_graph(atoms, model.config.elements, model.config.r_max, dtype=dtype, head=head).to(device=device)
    if model.anisotropy is not None:  # rotations mean nothing to the rest, which is nonsoc
        with torch.no_grad():
            rest = float(model.node_energies(graph).sum() - model.anisotropy.node_energies(graph).sum())
        return rest + rotation_energies(model.anisotropy, atoms, rotations, head=head, batch_nodes=batch_nodes)
    size = max(1, batch_nodes // len(atoms))
    even = model.config.symmetry != "paper"
    with torch.no_grad(), model.weights_fixed():
        scan = _Scan(model, graph)

        def parts(numbers: np.ndarray) -> list[np.ndarray]:
            return np.split(numbers, range(size, len(numbers), size))

        def rotations_of(numbers: np.ndarray) -> Tensor:
            return turns[torch.as_tensor(numbers)].to(device=device, dtype=dtype)

        def scalars(numbers: np.ndarray) -> Tensor:
            return torch.cat([scan.scalars(rotations_of(part)).flatten(1) for part in parts(numbers)])

        def evaluate(numbers: np.ndarray) -> np.ndarray:
            if not len(numbers):
                return np.empty(0)
            return _numbers([scan.energies(rotations_of(part)) for part in parts(numbers)])

        everything = np.arange(len(turns))
        if even:
            turns = turns * torch.linalg.det(turns).sign()[:, None, None]  # E(−m) = E(m)
        elif bool((torch.linalg.det(turns) < 0).any()):
            return evaluate(everything)
        functions = RotationFunctions(vector_moments(atoms), turns.numpy())
        known = None if scan.messages else polynomials(functions, scan.degree, even, scan.width, scalars)
        if known is not None:  # nothing is left but readouts
            return _numbers([scan.read(known(part)) for part in parts(everything)])
        noise = scan.rounding(rotations_of(everything[:PROBES]))
        return from_few(functions, evaluate, even, noise)


def _numbers(energies: list[Tensor]) -> np.ndarray:
    return torch.cat(energies).cpu().double().numpy()


class _Scan:
    """What does not depend on the rotation."""

    def __init__(self, model: Potential, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.nodes = len(graph.species)
        self.solid, self.chebyshev, _ = model.moments(graph.magmoms, graph.species)
        self.edges = model.edges.uncoupled(graph, graph.positions, graph.cell)
        self.targets = self._first_layer()
        self.messages = [
            PairSums(layer.message, self.edges, self.chebyshev, graph)
            for layer in self._layers()
            if isinstance(layer.message, FeatureMessage)
        ]
        species = graph.species
        self.own = [layer.own.weights(self.chebyshev, species) for layer in self._layers() if layer.own is not None]
        unturned = torch.eye(3, dtype=self.solid.dtype, device=self.solid.device).unsqueeze(0)
        self.rest = torch.zeros_like(self.solid[0, 0])
        self.rest = model.node_energies(graph).sum() - self.energies(unturned)[0]

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    def _first_layer(self) -> list[tuple[Irrep, list[tuple[Tensor, int]], Tensor]]:
        """Per target: Clebsch–Gordan tensors [y, r, m] with the degree of R, and V [N, rows, K], rows by tensor."""
        layer, graph = self._layers()[0], self.graph
        message = layer.message
        assert isinstance(message, ElementMessage)
        senders = graph.senders.reshape(-1)
        z = message.radial(self.edges.bessel, self.chebyshev, senders)
        (angular,) = self.edges.geometry
        angular = (angular.unsqueeze(2) * self.solid.index_select(0, senders).unsqueeze(1)).flatten(1)
        slots = graph.element_slots(message.num_elements)
        sums = message.sum.sums(angular, z, slots)  # [N, slots, (y, r), H]
        sent = message.sum.sent(self.model.embedding, slots)  # [N, slots, K]
        factor = message.normalisation(self.edges, graph)  # [N,1]
        moments = self.solid.shape[1]
        targets = []
        for number, (target, count) in enumerate(message.per_target.items()):
            tensors, rows = [], []
            for path, weight in zip(message.paths, message.weights, strict=True):
                if path.target != target:
                    continue
                full = path.geometry[:, 0, :].reshape(-1, moments, target.dim) / math.sqrt(count * z.shape[1])
                used_y = np.flatnonzero(np.abs(full).max(axis=(1, 2)))
                degree = math.isqrt(int(np.flatnonzero(np.abs(full).max(axis=(0, 2)))[0]))
                used_r = np.arange(degree**2, (degree + 1) ** 2)
                tensors.append((torch.as_tensor(full[np.ix_(used_y, used_r)]).to(self.solid), degree))
                index = torch.as_tensor((used_y[:, None] * moments + used_r).reshape(-1), device=self.solid.device)
                weighted = (sums.index_select(2, index) @ weight * sent.unsqueeze(2)).sum(1)  # [N, rows, K]
                rows.append((weighted * factor.unsqueeze(2)) @ layer.product.mix[number])
            targets.append((target, tensors, torch.cat(rows, dim=1)))
        return targets

    @property
    def degree(self) -> int:
        """Largest degree of the first layer's features in the rotation."""
        config = self.model.config
        return (config.correlation + 1) * config.l_mag

    @property
    def width(self) -> int:
        """Scalar features of all atoms."""
        return self.nodes * self.model.embedding.shape[1]

    def _first(self, rotations: Tensor) -> tuple[Features, Tensor]:
        """Features of the first layer [N·B,2l+1,K]; R of the turned moments [N,B,(l_mag+1)²]."""
        count = len(rotations)
        turned = [rotation_matrices(degree, rotations) for degree in range(self.model.config.l_mag + 1)]
        solid = torch.cat(
            [
                torch.einsum("brs,ns->nbr", matrix, self.solid[:, degree**2 : (degree + 1) ** 2])
                for degree, matrix in enumerate(turned)
            ],
            dim=2,
        )
        blocks = []
        for target, tensors, sums in self.targets:
            parts = [
                torch.einsum("yrm,brs->mbys", tensor, turned[degree]).reshape(target.dim * count, -1)
                for tensor, degree in tensors
            ]
            left = torch.cat(parts, dim=1).unflatten(0, (target.dim, 1, count))
            blocks.append((left @ sums).flatten(1, 2))  # [m, N·B, K]
        species, layer = self.graph.species.repeat_interleave(count), self._layers()[0]
        mu = layer.product(torch.cat(blocks), species)
        own = self.own[0].repeat_interleave(count, 0)
        return layer.update(mu, {}, solid.flatten(0, 1), own, species), solid

    def scalars(self, rotations: Tensor) -> Tensor:
        """Scalar features of the first layer, [B,N,K]."""
        scalar = self._first(rotations)[0][self.model.scalar].squeeze(1)
        return scalar.unflatten(0, (self.nodes, len(rotations))).transpose(0, 1)

    def read(self, scalars: Tensor) -> Tensor:
        """[B] eV of a model of one layer with ``scalars`` [B, N·K]."""
        energies = self._readout(0, scalars.reshape(len(scalars) * self.nodes, -1)).reshape(-1, self.nodes)
        return self.rest + self.model.energy_scale * energies.sum(1)

    def energies(self, rotations: Tensor) -> Tensor:
        """[B] eV, for ``rotations`` [B,3,3]."""
        model, count, layers = self.model, len(rotations), self._layers()
        features, solid = self._first(rotations)
        interaction = self._readout(0, features[model.scalar].squeeze(1))
        flat, species = solid.flatten(0, 1), self.graph.species.repeat_interleave(count)
        for number, (layer, pairs) in enumerate(zip(layers[1:], self.messages, strict=True), start=1):
            sent = torch.cat([features[irrep] for irrep in pairs.message.sources], dim=1)
            mixed = pairs(sent.unflatten(0, (self.nodes, count)), solid, layer.product.mix).flatten(1, 2)
            own = self.own[number].repeat_interleave(count, 0)
            features = layer.update(layer.product(mixed, species), features, flat, own, species)
            interaction = interaction + self._readout(number, features[model.scalar].squeeze(1))
        return self.rest + model.energy_scale * interaction.reshape(self.nodes, count).sum(0)

    def rounding(self, rotations: Tensor) -> float:
        """Four standard deviations, eV, of the scan's energies from single evaluations, at ``rotations``."""
        if len(rotations) < 2:
            return 0.0
        turned = (self.graph.with_magmoms(self.graph.magmoms @ rotation.T) for rotation in rotations)
        single = torch.stack([self.model.node_energies(graph).sum() for graph in turned])
        return 4.0 * float((single - self.energies(rotations)).std())

    def _readout(self, number: int, scalars: Tensor) -> Tensor:
        energies: Tensor = self.model.readouts[number](scalars)
        return energies[:, int(self.graph.head[0])]
