"""Energies of one structure for many rigid rotations of all its moments: the anisotropy scan.

Lengths of moments and everything of positions stay as they are: radial functions, spherical harmonics, and in the first
layer even the sum over neighbours are computed once. With R_l(Q·m) = D_l(Q)·R_l(m) the sums

    V[i; path, y, r, k] = Σ_j Y_y(r_ji) R_r(m_j) (radial weight)_k,      then weighted, normalised and mixed,

give A of every rotation by a small matrix product, A(Q) = (CG · D(Q)) V, one per rotation and not per edge. Behind it,
scalar features are polynomials of the turned moments: where a few rotations decide all others exactly
(`mmace.spins.directions`), only those are computed, and the last, nonlinear readout for all.
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
from mmace.spins.directions import RotationFunctions

BATCH_NODES = 2000  # copies of atoms worked on at once


def rotation_energies(
    model: Potential, atoms: Atoms, rotations: np.ndarray | Tensor, *, head: int = 0, batch_nodes: int = BATCH_NODES
) -> np.ndarray:
    """Energies [B], eV, with all moments (N,3) of ``atoms`` turned by each of ``rotations`` [B,3,3].

    The same numbers as one evaluation each. Raises UserError for a model without moments or for matrices that are not
    orthogonal.
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
    functions = RotationFunctions(vector_moments(atoms), _degree(model), even)
    with torch.no_grad(), model.weights_fixed():
        scan = _Scan(model, graph)

        def features(rotations: Tensor) -> tuple[Tensor, Tensor]:
            parts = [scan.features(part.to(device=device, dtype=dtype)) for part in rotations.split(size)]
            return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

        few = functions.count is not None and 3 * functions.count < len(turns)
        if not few or not (even or bool((torch.linalg.det(turns) > 0).all())):
            return scan.energies(*features(turns)).cpu().double().numpy()
        turns = turns * torch.linalg.det(turns).sign()[:, None, None]  # E(−m) = E(m)
        samples = functions.samples()
        known = features(torch.as_tensor(samples))
        matrix = functions.interpolation(turns.numpy(), samples).to(device=device, dtype=dtype)
        parts = [scan.energies(*(_interpolated(part, each) for each in known)) for part in matrix.split(size)]
    return torch.cat(parts).cpu().double().numpy()


def _interpolated(matrix: Tensor, values: Tensor) -> Tensor:
    return (matrix @ values.flatten(1)).reshape(len(matrix), *values.shape[1:])


def _degree(model: Potential) -> int:
    """Of the scalar features of the last layer, as polynomials of solid harmonics of the moments."""
    l_mag, order = model.config.l_mag, model.config.correlation
    degree = 0
    for _ in model.layers:
        degree = order * (degree + l_mag) + l_mag
    return degree


class _Scan:
    """What does not depend on the rotation."""

    def __init__(self, model: Potential, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.nodes = len(graph.species)
        self.solid, self.chebyshev, _ = model.moments(graph.magmoms, graph.species)
        self.edges = model.edges.uncoupled(graph, graph.positions, graph.cell)
        self.targets = self._first_layer()
        self.weights = [
            layer.message.radial_weights(self.edges, self.chebyshev, graph)
            for layer in self._layers()
            if isinstance(layer.message, FeatureMessage)
        ]
        unturned = torch.eye(3, dtype=self.solid.dtype, device=self.solid.device).unsqueeze(0)
        self.rest = torch.zeros_like(self.solid[0, 0])
        self.rest = model.node_energies(graph).sum() - self.energies(*self.features(unturned))[0]

    def energies(self, partial: Tensor, last: Tensor) -> Tensor:
        """[B] eV, from what `features` gives."""
        count = len(last)
        interaction = partial.sum(1) + self._readout(-1, last.flatten(0, 1)).reshape(count, -1).sum(1)
        return self.rest + self.model.energy_scale * interaction

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    def _first_layer(self) -> list[tuple[Irrep, list[tuple[Tensor, int]], Tensor]]:
        """Per target: Clebsch–Gordan tensors [y, r, m] with the degree of R, and V [rows, N·K], rows by tensor."""
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
            targets.append((target, tensors, torch.cat(rows, dim=1).transpose(0, 1).flatten(1)))
        return targets

    def features(self, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [B,N] of all (linear) readouts but the last, and the scalar features [B,N,K] of the last layer."""
        model, count = self.model, len(rotations)
        turned = [rotation_matrices(degree, rotations) for degree in range(model.config.l_mag + 1)]
        solid = torch.cat(
            [
                torch.einsum("brs,ns->bnr", matrix, self.solid[:, degree**2 : (degree + 1) ** 2])
                for degree, matrix in enumerate(turned)
            ],
            dim=2,
        )  # [B, N, (l_mag+1)²]
        blocks = []
        for target, tensors, sums in self.targets:
            left = [
                torch.einsum("yrm,brs->mbys", tensor, turned[degree]).reshape(target.dim * count, -1)
                for tensor, degree in tensors
            ]
            blocks.append((torch.cat(left, dim=1) @ sums).reshape(target.dim, count * self.nodes, -1))
        species, chebyshev = self.graph.species.repeat(count), self.chebyshev.repeat(count, 1)
        flat = solid.flatten(0, 1)
        layers = self._layers()
        mu = layers[0].product(torch.cat(blocks), species)
        features = layers[0].update(mu, {}, flat, chebyshev, species)
        partial = torch.zeros_like(chebyshev[:, 0])
        for number, (layer, weights) in enumerate(zip(layers[1:], self.weights, strict=True), start=1):
            partial = partial + self._readout(number - 1, features[model.scalar].squeeze(1))
            a = self._later_message(layer, number, weights, features, solid)
            features = layer.update(layer.product(a, species), features, flat, chebyshev, species)
        last = features[model.scalar].reshape(count, self.nodes, -1)
        return partial.reshape(count, self.nodes), last

    def _readout(self, number: int, scalars: Tensor) -> Tensor:
        energies: Tensor = self.model.readouts[number](scalars)[:, int(self.graph.head[0])]
        return energies

    def _later_message(
        self, layer: Layer, number: int, weights: tuple[Tensor, Tensor | None], features: Features, solid: Tensor
    ) -> Tensor:
        """A of a layer whose senders' features have changed with the rotation: only P and K are kept."""
        message, graph = layer.message, self.graph
        assert isinstance(message, FeatureMessage)
        sent = torch.cat([features[irrep] for irrep in message.sources], dim=1)
        sent = sent.reshape(len(solid), self.nodes, *sent.shape[1:])
        (angular,) = self.edges.geometry
        senders, constant = graph.senders.reshape(-1), getattr(self.model.edges, f"geometry_{number}")
        factor = message.normalisation(self.edges, graph)
        out = []
        for of_sender, own in zip(solid, sent, strict=True):
            product = (angular.unsqueeze(2) * of_sender.index_select(0, senders).unsqueeze(1)).flatten(1)
            out.append(message.sum(product @ constant, *weights, own, graph.senders, graph.real) * factor)
        return torch.bmm(torch.cat(out, dim=1), layer.product.mix.index_select(0, message.block_of_row))
