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
from mmace.spins.polynomials import RotationPolynomials, polynomials

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

        def of(numbers: np.ndarray) -> list[tuple[np.ndarray, Tensor]]:
            parts = np.split(numbers, range(size, len(numbers), size))
            return [(part, turns[torch.as_tensor(part)].to(device=device, dtype=dtype)) for part in parts]

        def compute(numbers: np.ndarray) -> Tensor:
            return torch.cat([scan.features(rotations).flatten(1) for _, rotations in of(numbers)])

        def evaluate(numbers: np.ndarray) -> np.ndarray:
            if not len(numbers):
                return np.empty(0)
            energies = [
                scan.energies(rotations, None if known is None else known(part)) for part, rotations in of(numbers)
            ]
            return torch.cat(energies).cpu().double().numpy()

        known: RotationPolynomials | None = None
        everything = np.arange(len(turns))
        if even:
            turns = turns * torch.linalg.det(turns).sign()[:, None, None]  # E(−m) = E(m)
        elif bool((torch.linalg.det(turns) < 0).any()):
            return evaluate(everything)
        functions = RotationFunctions(vector_moments(atoms), turns.numpy())
        known = polynomials(functions, scan.degree, even, compute)
        if known is not None and scan.shallow:
            return evaluate(everything)  # nothing is left but readouts
        noise = scan.rounding(turns[:PROBES].to(device=device, dtype=dtype))
        return from_few(functions, evaluate, even, noise)


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
    def shallow(self) -> bool:
        """Whether there is one layer only."""
        return not self.messages

    @property
    def degree(self) -> int:
        """Largest degree of the first layer's features in the rotation."""
        config = self.model.config
        return (config.correlation + 1) * config.l_mag

    def _turned(self, rotations: Tensor) -> tuple[list[Tensor], Tensor]:
        """D_l [B,2l+1,2l+1] by degree; R of the turned moments [N,B,(l_mag+1)²]."""
        turned = [rotation_matrices(degree, rotations) for degree in range(self.model.config.l_mag + 1)]
        solid = [
            torch.einsum("brs,ns->nbr", matrix, self.solid[:, degree**2 : (degree + 1) ** 2])
            for degree, matrix in enumerate(turned)
        ]
        return turned, torch.cat(solid, dim=2)

    def features(self, rotations: Tensor) -> Tensor:
        """Features of the first layer, [B, N, components of all irreps, K]."""
        count = len(rotations)
        turned, solid = self._turned(rotations)
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
        features = layer.update(mu, {}, solid.flatten(0, 1), self.own[0].repeat_interleave(count, 0), species)
        together = torch.cat([features[irrep] for irrep in layer.outputs], dim=1)
        return together.unflatten(0, (self.nodes, count)).transpose(0, 1)

    def energies(self, rotations: Tensor, known: Tensor | None = None) -> Tensor:
        """[B] eV, for ``rotations`` [B,3,3]. ``known``: the first layer's features there, if they are."""
        model, count, layers = self.model, len(rotations), self._layers()
        together = self.features(rotations) if known is None else known
        dims = [irrep.dim for irrep in layers[0].outputs]
        together = together.reshape(count, self.nodes, sum(dims), -1).transpose(0, 1).flatten(0, 1)
        features = dict(zip(layers[0].outputs, together.split(dims, dim=1), strict=True))
        interaction = self._readout(0, features)
        if not self.shallow:
            solid = self._turned(rotations)[1]
            flat = solid.flatten(0, 1)
            species = self.graph.species.repeat_interleave(count)
            own = [weights.repeat_interleave(count, 0) for weights in self.own]
        for number, (layer, pairs) in enumerate(zip(layers[1:], self.messages, strict=True), start=1):
            sent = torch.cat([features[irrep] for irrep in pairs.message.sources], dim=1)
            mixed = pairs(sent.unflatten(0, (self.nodes, count)), solid, layer.product.mix).flatten(1, 2)
            features = layer.update(layer.product(mixed, species), features, flat, own[number], species)
            interaction = interaction + self._readout(number, features)
        return self.rest + model.energy_scale * interaction.reshape(self.nodes, count).sum(0)

    def rounding(self, rotations: Tensor) -> float:
        """Four standard deviations, eV, of the scan's energies from single evaluations, at ``rotations``."""
        if len(rotations) < 2:
            return 0.0
        turned = (self.graph.with_magmoms(self.graph.magmoms @ rotation.T) for rotation in rotations)
        single = torch.stack([self.model.node_energies(graph).sum() for graph in turned])
        return 4.0 * float((single - self.energies(rotations)).std())

    def _readout(self, number: int, features: Features) -> Tensor:
        energies: Tensor = self.model.readouts[number](features[self.model.scalar].squeeze(1))
        return energies[:, int(self.graph.head[0])]
