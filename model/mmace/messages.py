"""Messages of the neighbours, summed: A_i = Σ_j φ'_ji [13–18], density-normalised.

The two Clebsch–Gordan steps [15, 16] are merged into one constant tensor per path, so that everything angular is free
of the channel: a geometry tensor G[edge, path, m] (`mmace.edges`, with the envelope inside: no message at r_max) meets
radial weights [edge, path, channel].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmace.config import PotentialConfig
from mmace.coupling import Irrep, clebsch_gordan, products
from mmace.density import density_factor
from mmace.edges import EdgeFeatures
from mmace.element_sum import ElementSum
from mmace.graph import Graph
from mmace.message import MessagePath, MessageSum
from mmace.radial import MLP, RadialFeatures, normal

Features = dict[Irrep, Tensor]  # {irrep: [N, dim, K]}


@dataclass(frozen=True)
class Path:
    """One way from (l1 of the edge, l'' of the sender's moment, a feature of the sender) to a block of A."""

    source: Irrep
    target: Irrep
    position_path: int  # index of the radial function P
    moment_path: int  # index of the radial function K
    geometry: np.ndarray  # [(l_pos+1)²·(l_mag+1)², dim source, dim target]


def message_paths(config: PotentialConfig, sources: Sequence[Irrep]) -> list[Path]:
    """All paths of [15, 16] (soc, paper), [E2–E4] (nonsoc) or plain MACE (none), by target."""
    rules = config.rules
    l_pos, l_mag = config.l_pos, config.l_mag if rules.magnetic else 0
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
                        full = np.zeros((rows_y, rows_r, source.dim, target.dim))
                        full[l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2] = np.einsum("yac,crb->yrab", first, second)
                        paths.append(Path(source, target, p, q, full.reshape(-1, source.dim, target.dim)))
    return sorted(paths, key=lambda path: (path.target.time < 0, path.target.degrees, path.source))


class _Message(nn.Module):
    """What both kinds of message share: the paths to each block of A, and the normalisation."""

    average_neighbors: Tensor

    def __init__(self, config: PotentialConfig, sources: Sequence[Irrep], generator: torch.Generator) -> None:
        super().__init__()
        self.sources, self.channels = tuple(sources), config.channels
        self.paths = message_paths(config, sources)
        self.per_target: dict[Irrep, int] = {}
        for path in self.paths:
            self.per_target[path.target] = self.per_target.get(path.target, 0) + 1
        self.blocks = tuple(self.per_target)
        dtype = config.torch_dtype
        self.density = MLP([config.num_bessel, 16, 1], generator, dtype) if config.density_normalization else None
        self.register_buffer("average_neighbors", torch.tensor(1.0, dtype=dtype))

    def radial_features(self, config: PotentialConfig, generator: torch.Generator) -> RadialFeatures:
        chebyshev = config.num_chebyshev if config.rules.magnetic else 0
        return RadialFeatures(config.num_bessel, chebyshev, config.radial_hidden, generator, config.torch_dtype)

    def normalisation(self, edges: EdgeFeatures, graph: Graph) -> Tensor:
        """[N,1]: 1/(1 + Σ_j tanh² of a learned edge density), or 1/average number of neighbours; over √K besides.

        √K belongs to the channel mix that follows on A.
        """
        root = math.sqrt(self.channels)
        if self.density is None:
            return (1.0 / (root * self.average_neighbors)).expand(graph.senders.shape[0], 1)
        y, cut = (each.reshape(graph.senders.shape) for each in (self.density(edges.bessel), edges.cut))
        return density_factor(y, cut).unsqueeze(1) * (1.0 / root)


class ElementMessage(_Message):
    """The message of the first layer, whose senders know their element only [17].

    P and K are functions of the same J_ji ⊕ T_j and meet nowhere but in their product: here their product is learned as
    one function per path, R = z(J_ji ⊕ T_j) · W. Being linear in z, the sum over neighbours can come first,

        A[i,m,k] = Σ_paths Σ_c W[path,c,k] Σ_Z h[Z,k] Σ_{j of element Z} G[ji,path,m] z[ji,c],

    so that no tensor [edges, paths, channels] exists, and the largest matrix product is one per atom and not per edge.
    """

    def __init__(self, config: PotentialConfig, sources: Sequence[Irrep], generator: torch.Generator) -> None:
        super().__init__(config, sources, generator)
        width = config.radial_hidden[-1]
        # columns of G: all components of all paths, which stand in the order of A
        columns = [path.geometry[:, 0, :] / math.sqrt(self.per_target[path.target] * width) for path in self.paths]
        self.geometry = np.concatenate(columns, axis=1)
        self.num_elements = len(config.elements)
        self.radial = self.radial_features(config, generator)
        self.weights = normal(generator, config.torch_dtype, len(self.paths), width, config.channels)
        self.sum = ElementSum(
            [self.blocks.index(path.target) for path in self.paths], [block.dim for block in self.blocks]
        )

    def forward(
        self,
        features: Features,
        edges: EdgeFeatures,
        geometry: Tensor,
        chebyshev: Tensor | None,
        graph: Graph,
        mix: Tensor,
    ) -> Tensor:
        """A [C, N, K], mixed: the blocks of ``self.blocks`` one after the other. ``features``: of the elements."""
        (embedding,) = features.values()  # [elements,1,K]
        z = self.radial(edges.bessel, chebyshev, graph.senders.reshape(-1))
        message = self.sum(geometry, z, self.weights, embedding.squeeze(1), mix, graph.element_slots(self.num_elements))
        return message * self.normalisation(edges, graph)


class FeatureMessage(_Message):
    """The message of a later layer: senders have features of their own [15, 16].

    A[i,m,k] = Σ_j Σ_paths Σ_s G[ji,path,s,m] · P[ji,p,k] · K[ji,q,k] · h[j,s,k]
    """

    block_of_row: Tensor

    def __init__(self, config: PotentialConfig, sources: Sequence[Irrep], generator: torch.Generator) -> None:
        super().__init__(config, sources, generator)
        target_starts = dict(zip(self.blocks, np.cumsum([0] + [i.dim for i in self.blocks]), strict=False))
        source_starts = dict(zip(sources, np.cumsum([0] + [i.dim for i in sources]), strict=False))
        constants = [
            path.geometry.reshape(len(path.geometry), -1) / math.sqrt(self.per_target[path.target])
            for path in self.paths
        ]
        self.geometry = np.concatenate(constants, axis=1)
        starts = np.cumsum([0] + [constant.shape[1] for constant in constants])
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
                for path, start in zip(self.paths, starts, strict=False)
            ],
            sum(irrep.dim for irrep in self.blocks),
        )
        block_of_row = [number for number, block in enumerate(self.blocks) for _ in range(block.dim)]
        self.register_buffer("block_of_row", torch.tensor(block_of_row), persistent=False)
        self.num_position = 1 + max(path.position_path for path in self.paths)
        self.num_moment = 1 + max(path.moment_path for path in self.paths)
        dtype, width = config.torch_dtype, config.radial_hidden[-1]
        self.radial_position = self.radial_features(config, generator)
        self.position = normal(generator, dtype, width, self.num_position * self.channels)
        if config.rules.magnetic:
            self.radial_moment = self.radial_features(config, generator)
            self.moment = normal(generator, dtype, width, self.num_moment * self.channels)

    def forward(
        self,
        features: Features,
        edges: EdgeFeatures,
        geometry: Tensor,
        chebyshev: Tensor | None,
        graph: Graph,
        mix: Tensor,
    ) -> Tensor:
        """A [C, N, K], mixed: the blocks of ``self.blocks`` one after the other. ``mix`` [blocks,K,K]."""
        position, moment = self.radial_weights(edges, chebyshev, graph)
        sent = torch.cat([features[irrep] for irrep in self.sources], dim=1)
        message = self.sum(geometry, position, moment, sent, graph.senders, graph.real)
        return torch.bmm(message * self.normalisation(edges, graph), mix.index_select(0, self.block_of_row))

    def radial_weights(
        self, edges: EdgeFeatures, chebyshev: Tensor | None, graph: Graph
    ) -> tuple[Tensor, Tensor | None]:
        """P [E, functions, K] and K likewise, None without moments [13, 14]."""
        senders = graph.senders.reshape(-1)
        scale = 1.0 / math.sqrt(self.position.shape[0])
        position = self.radial_position(edges.bessel, chebyshev, senders) @ (self.position * scale)
        position = position.reshape(-1, self.num_position, self.channels)
        if chebyshev is None:
            return position, None
        moment = self.radial_moment(edges.bessel, chebyshev, senders) @ (self.moment * scale)
        return position, moment.reshape(-1, self.num_moment, self.channels)
