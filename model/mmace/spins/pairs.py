"""The message of a later layer when all moments turn and positions stay: neighbours summed by sender first.

A sender's features h_j and solid harmonics R(m_j) change with the rotation; radial functions and edges do not. With the
images of one sender summed,

    T[i,j; M,s,r,k] = Σ_{e: j→i} Σ_paths Σ_y CG[y,r,s,M] Y_y(r_e) P[e,p,k] K[e,q,k],

A of every rotation is one matrix product per channel, A_i[M,k] = Σ_{j,s,r} T[i,j; M,s,r,k] · h_j[s,k] R_r(m_j) [15–18].
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mmace.edges import EdgeFeatures
from mmace.graph import Graph
from mmace.messages import FeatureMessage, Path

SMALL_CELL = 20  # atoms: nearly all are neighbours of each other, and one product serves all receivers
KEPT_NUMBERS = 50_000_000  # of T in all; more is made anew for every batch of rotations


class PairSums:
    """T of one layer. ``edges``: what positions alone give (`EdgeBasis.uncoupled`)."""

    def __init__(self, message: FeatureMessage, edges: EdgeFeatures, chebyshev: Tensor, graph: Graph) -> None:
        self.message, self.graph = message, graph
        (self.angular,) = edges.geometry  # [E, (l_pos+1)²]
        self.position, self.moment = message.radial_weights(edges, chebyshev, graph)
        self.factor = message.normalisation(edges, graph)
        self.rows = sum(irrep.dim for irrep in message.blocks)
        self.sources = dict(zip(message.sources, _starts([irrep.dim for irrep in message.sources]), strict=True))
        self.targets = dict(zip(message.blocks, _starts([irrep.dim for irrep in message.blocks]), strict=True))
        self.groups = self._groups()
        nodes = torch.arange(len(graph.species), device=graph.species.device)
        self.chunks = nodes.split(len(nodes) if len(nodes) <= SMALL_CELL else 1)
        self.kept: dict[int, tuple[Tensor, list[Tensor]]] = {}

    def __call__(self, sent: Tensor, solid: Tensor, mix: Tensor) -> Tensor:
        """A [C, N, B, K] of B rotations, normalised and mixed; ``sent`` h [N,B,S,K], ``solid`` R [N,B,(l_mag+1)²]."""
        nodes, count, _, channels = sent.shape
        A = sent.new_empty(self.rows, nodes, count, channels)
        h = sent.permute(3, 0, 2, 1).contiguous().unsqueeze(3)  # [K,N,S,1,B]
        turned = solid.transpose(1, 2).unsqueeze(1)  # [N,1,R,B]
        products = [h * turned.index_select(2, moments) for _, moments, _ in self.groups]
        for number, receivers in enumerate(self.chunks):
            senders, sums = self._sums(number)
            for (rows, _, _), T, product in zip(self.groups, sums, products, strict=True):
                of_senders = product if len(senders) == nodes else product.index_select(1, senders)
                block = torch.bmm(T, of_senders.reshape(channels, -1, count))  # [K, rows·receivers, B]
                block = block.reshape(channels, len(rows), -1).permute(1, 2, 0)  # as it lies: BLAS takes transposes
                mixed = torch.bmm(block, mix.index_select(0, self.message.block_of_row[rows]))
                A[rows[:, None], receivers] = mixed.reshape(len(rows), len(receivers), count, channels)
        return A

    def _groups(self) -> list[tuple[Tensor, Tensor, list[tuple[Path, np.ndarray]]]]:
        """Rows of A that need the same components of R: both, and their paths with CG [y, r, s, m]."""
        moments = math.isqrt(self.message.paths[0].geometry.shape[0] // self.angular.shape[1])
        of_target: dict[object, list[tuple[Path, np.ndarray]]] = {}
        for path in self.message.paths:
            shape = (self.angular.shape[1], moments**2, path.source.dim, path.target.dim)
            tensor = path.geometry.reshape(shape) / math.sqrt(self.message.per_target[path.target])
            of_target.setdefault(path.target, []).append((path, tensor))
        by_moments: dict[tuple[int, ...], list] = {}
        for target, paths in of_target.items():
            used = np.flatnonzero(sum(np.abs(tensor).sum(axis=(0, 2, 3)) for _, tensor in paths))
            by_moments.setdefault(tuple(used), []).append((target, paths))
        groups = []
        for moments_used, members in by_moments.items():
            rows = [np.arange(self.targets[target], self.targets[target] + target.dim) for target, _ in members]
            row_numbers = torch.as_tensor(np.concatenate(rows), device=self.angular.device)
            components = torch.as_tensor(moments_used, device=self.angular.device)
            groups.append((row_numbers, components, [each for _, paths in members for each in paths]))
        return groups

    def _sums(self, number: int) -> tuple[Tensor, list[Tensor]]:
        """Senders [J] of a chunk of receivers [I], in order, and T of each group [K, rows·I, J·S·R]."""
        if number in self.kept:
            return self.kept[number]
        graph, channels, receivers = self.graph, self.position.shape[2], self.chunks[number]
        real = graph.real[receivers]
        owner, place = torch.nonzero(real, as_tuple=True)
        edges = receivers[owner] * real.shape[1] + place
        senders, sender = torch.unique(graph.senders[receivers][real], return_inverse=True)
        pairs = len(receivers) * len(senders)
        angular, position = self.angular[edges], self.position[edges] * self.factor[receivers][owner].unsqueeze(2)
        moment = None if self.moment is None else self.moment[edges]
        of_pair = torch.nn.functional.one_hot(owner * len(senders) + sender, pairs).to(angular)  # [edges, I·J]
        sums = []
        for rows, used, paths in self.groups:
            sent = sum(irrep.dim for irrep in self.sources)
            T = angular.new_zeros(len(rows), len(receivers), len(senders), sent, len(used), channels)
            places = {row: number for number, row in enumerate(rows.tolist())}
            for path, tensor in paths:
                y, r = (np.flatnonzero(np.abs(tensor).sum(axis=axes)) for axes in ((1, 2, 3), (0, 2, 3)))
                weight = position[:, path.position_path]
                if moment is not None:
                    weight = weight * moment[:, path.moment_path]
                V = torch.stack([of_pair.t() @ (angular[:, c, None] * weight) for c in y.tolist()])  # [y, I·J, K]
                coupling = torch.as_tensor(tensor[np.ix_(y, r)]).to(V)
                row, s, at = places[self.targets[path.target]], self.sources[path.source], used.tolist().index(r[0])
                block = torch.einsum("yrsm,yjk->mjsrk", coupling, V).unflatten(1, (len(receivers), len(senders)))
                T[row : row + path.target.dim, :, :, s : s + path.source.dim, at : at + len(r)] += block
            T = T.permute(5, 0, 1, 2, 3, 4).reshape(channels, len(rows) * len(receivers), -1)
            sums.append(T.contiguous())
        if sum(each.numel() for each in sums) * len(self.chunks) <= KEPT_NUMBERS:
            self.kept[number] = senders, sums
        return senders, sums


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:number]) for number in range(len(sizes))]
