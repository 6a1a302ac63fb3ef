"""The potential: energy and its derivatives. One class for all symmetries, with moments or without.

Numbers in brackets are the equations of arXiv 2604.08143; `docs/potential.md` tells them in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmace.config import PotentialConfig
from mmace.coupling import Irrep
from mmace.edges import EdgeBasis, EdgeFeatures
from mmace.errors import UserError
from mmace.graph import Graph
from mmace.layers import ManyBodyProduct, OwnMoment, by_element
from mmace.messages import ElementMessage, FeatureMessage, Features
from mmace.moments import MomentBasis
from mmace.native.function import no_weight_gradients
from mmace.one_body import OneBody, OneBodyCurve
from mmace.radial import MLP, AgnesiTransform
from mmace.repulsion import PairRepulsion


class Layer(nn.Module):
    """One message-passing layer [13–23]: senders' features in, updated features out."""

    def __init__(
        self,
        config: PotentialConfig,
        sources: list[Irrep],
        outputs: list[Irrep],
        residual: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        rules, channels, dtype = config.rules, config.channels, config.torch_dtype
        self.outputs = outputs
        self.message: ElementMessage | FeatureMessage
        self.message = (FeatureMessage if residual else ElementMessage)(config, sources, generator)
        coupled = OwnMoment.needed(rules, outputs, config.l_mag) if rules.magnetic else outputs
        elements = len(config.elements)
        self.product = ManyBodyProduct(
            self.message.blocks, coupled, channels, config.correlation, elements, generator, dtype
        )
        self.own = (
            OwnMoment(rules, coupled, outputs, channels, config.l_mag, config.num_chebyshev, elements, generator, dtype)
            if rules.magnetic
            else None
        )

        def matrices(*shape: int) -> nn.ParameterList:
            return nn.ParameterList(
                nn.Parameter(torch.randn(*shape, generator=generator, dtype=dtype)) for _ in outputs
            )

        self.mix = matrices(channels, channels)
        self.mix_own = matrices(channels, channels) if self.own is not None else None
        self.kept = [irrep in sources for irrep in outputs]
        self.self_weight = matrices(elements, channels, channels) if residual else None

    def forward(
        self,
        features: Features,
        edges: EdgeFeatures,
        geometry: Tensor,
        solid: Tensor | None,
        chebyshev: Tensor | None,
        graph: Graph,
    ) -> Features:
        """All features {irrep: [N, dim, K]}, those that enter the first layer [elements, 1, K]; ``geometry`` G of this
        layer, R and T of `MomentBasis`."""
        mixed = self.message(features, edges, geometry, chebyshev, graph, self.product.mix)
        weights = None
        if self.own is not None and chebyshev is not None:
            weights = self.own.weights(chebyshev, graph.species)
        return self.update(self.product(mixed, graph.species), features, solid, weights, graph.species)

    def update(
        self, mu: Tensor, features: Features, solid: Tensor | None, own_weights: Tensor | None, species: Tensor
    ) -> Features:
        """What follows on the many-body product μ [21–23]. μ begins with the components of ``outputs``;
        ``own_weights`` of `OwnMoment.weights`."""
        own = None
        if self.own is not None and solid is not None and own_weights is not None:
            own = self.own(mu, solid, own_weights)
        norm = 1.0 / math.sqrt(mu.shape[2])
        updated: Features = {}
        start = 0
        for number, irrep in enumerate(self.outputs):
            rows = slice(start, start := start + irrep.dim)
            value = mu[:, rows].reshape(-1, mu.shape[2]) @ self.mix[number]
            if own is not None and self.mix_own is not None:
                of_own = own[:, rows].reshape(-1, mu.shape[2])
                value = torch.addmm(value, of_own, self.mix_own[number], beta=norm, alpha=norm)
            else:
                value = value * norm
            value = value.unflatten(0, (-1, irrep.dim))
            if self.self_weight is not None and self.kept[number]:
                value = value + by_element(features[irrep], self.self_weight[number] * norm, species)
            updated[irrep] = value
        return updated


class Potential(nn.Module):
    """Equivariant message-passing potential with atomic moments as inputs.

    E = Σ_i [ scale · Σ_t readout_t(h_i^{t+1}) + E0(Z_i) + E0_mag(Z_i, |m_i|) + wall(|m_i|) + pair repulsion ]  [24–26]

    An isolated atom has no messages, so that its interaction energy is exactly zero: the first layer has no residual
    and nothing has a bias. With ``config.anisotropy`` the energy of a second potential is added; a first part that is
    nonsoc then contributes nothing to rigid rotations of all moments.
    Raises UserError for configurations that make no sense.
    """

    atomic_energies: Tensor
    energy_scale: Tensor

    def __init__(self, config: PotentialConfig) -> None:
        super().__init__()
        self.config = config
        dtype, channels = config.torch_dtype, config.channels
        generator = torch.Generator().manual_seed(config.seed)
        elements = len(config.elements)
        scalar = config.rules.position(0)
        self.scalar = scalar
        self.embedding = nn.Parameter(torch.randn(elements, channels, generator=generator, dtype=dtype))
        self.repulsion = PairRepulsion(config.elements, dtype) if config.pair_repulsion else None
        self.one_body = OneBody(elements, dtype) if config.rules.magnetic else None
        m_max = torch.tensor([config.m_max_of(element) for element in config.elements], dtype=dtype)
        self.moments = MomentBasis(m_max, config.moment_wall, config.l_mag, config.num_chebyshev)
        self.layers = nn.ModuleList()
        self.readouts = nn.ModuleList()
        geometry = []
        sources = [scalar]
        for number in range(config.num_layers):
            last = number == config.num_layers - 1
            outputs = [scalar] if last else config.hidden_irreps
            layer = Layer(config, sources, outputs, residual=number > 0, generator=generator)
            self.layers.append(layer)
            geometry.append(layer.message.geometry)
            sizes = [channels, config.readout_hidden] if last else [channels]
            self.readouts.append(MLP([*sizes, len(config.heads)], generator, dtype))
            sources = outputs
        self.edges = EdgeBasis(
            config.r_max,
            config.l_pos,
            (config.l_mag + 1) ** 2 if config.rules.magnetic else 0,
            config.num_bessel,
            geometry,
            AgnesiTransform(config.elements, dtype) if config.distance_transform == "agnesi" else None,
            dtype,
        )
        self.anisotropy = Potential(config.anisotropy) if config.anisotropy is not None else None
        self.register_buffer("atomic_energies", torch.zeros(len(config.heads), elements, dtype=dtype))
        self.register_buffer("energy_scale", torch.ones((), dtype=dtype))

    # -- quantities set from data --------------------------------------------------------------------------------

    def set_atomic_energies(self, energies: dict[str, float], head: str | None = None) -> None:
        """E0 per element, eV, for one head (default: the first)."""
        row = self.config.heads.index(head) if head else 0
        for element, energy in energies.items():
            if element not in self.config.elements:
                raise UserError(f"atomic energies: the model does not know {element}")
            self.atomic_energies[row, self.config.elements.index(element)] = energy

    def set_energy_scale(self, scale: float) -> None:
        """Scale of the interaction energy, eV; usually the root mean square of the training forces in eV/Å."""
        self.energy_scale.fill_(scale)

    def set_one_body(self, curves: dict[str, OneBodyCurve]) -> None:
        """E0_mag per element, from `mmace.one_body.fit_chebyshev` or `fit_spline` [25]."""
        if self.one_body is None:
            raise UserError("one-body magnetic energies: this model has no moments (symmetry = none)")
        for element, curve in curves.items():
            if element not in self.config.elements:
                raise UserError(f"one-body magnetic energies: the model does not know {element}")
            self.one_body.set(self.config.elements.index(element), curve)

    def set_average_neighbors(self, average: float) -> None:
        """Average number of neighbours inside r_max; used where density normalisation is off."""
        if self.anisotropy is not None:
            self.anisotropy.set_average_neighbors(average)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.message.average_neighbors.fill_(average)

    @property
    def knows_energies(self) -> bool:
        """Whether energies mean something: E0 are zero in a model that was trained on anisotropy alone."""
        return bool(self.atomic_energies.any())

    # -- energy and derivatives ----------------------------------------------------------------------------------

    def node_energies(self, graph: Graph) -> Tensor:
        """Energies per atom [N], eV, differentiable in ``graph.positions``, ``graph.magmoms`` and ``graph.cell``."""
        return self.node_features(graph)[1]

    def node_features(self, graph: Graph) -> tuple[list[Tensor], Tensor]:
        """Scalar features after each layer [N,K] (descriptors that know the moments) and energies per atom [N], eV.

        Raises UserError for a structure whose head the model does not have.
        """
        _check_heads(graph, self.config.heads)
        solid, cheb, wall = None, None, None
        if self.config.rules.magnetic:
            solid, cheb, wall = self.moments(graph.magmoms, graph.species)
        edges = self.edges(graph, graph.positions, graph.cell, solid)
        features: Features = {self.scalar: self.embedding.unsqueeze(1)}
        scalars: list[Tensor] = []
        interaction: Tensor | None = None
        for layer, readout, geometry in zip(self.layers, self.readouts, edges.geometry, strict=True):
            features = layer(features, edges, geometry, solid, cheb, graph)
            scalars.append(features[self.scalar].squeeze(1))
            part = _of_head(readout(scalars[-1]), graph)
            interaction = part if interaction is None else interaction + part
        own = _of_head(self.atomic_energies.t().index_select(0, graph.species), graph)
        assert interaction is not None
        energies = own + self.energy_scale * interaction
        if self.repulsion is not None:
            energies = energies + self.repulsion(edges.lengths, graph)
        if self.one_body is not None and wall is not None:
            squares = (graph.magmoms * graph.magmoms).sum(-1)
            energies = energies + wall + self.one_body(squares, graph.species)
        if self.anisotropy is not None:
            energies = energies + self.anisotropy.node_energies(graph)
        return scalars, energies

    def forward(
        self,
        graph: Graph,
        forces: bool = True,
        stress: bool = True,
        magnetic_forces: bool = True,
        create_graph: bool = False,
    ) -> dict[str, Tensor]:
        """Energy and the derivatives asked for.

        Returns energy [S] eV, node_energy [N] eV, forces [N,3] eV/Å, stress [S,3,3] eV/Å³ (nan where the cell is not
        periodic in three directions), magnetic_forces [N,3] eV/μB. Strain moves positions and cell, never moments.
        ``create_graph`` keeps everything differentiable once more, for training on derivatives.
        """
        if create_graph:
            return self._derivatives(graph, forces, stress, magnetic_forces, create_graph=True)
        with self.weights_fixed():
            return self._derivatives(graph, forces, stress, magnetic_forces, create_graph=False)

    @contextmanager
    def weights_fixed(self) -> Iterator[None]:
        """Weights that ask for no gradient meanwhile: nothing is computed for them."""
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)

    def _derivatives(
        self, graph: Graph, forces: bool, stress: bool, magnetic_forces: bool, create_graph: bool
    ) -> dict[str, Tensor]:
        def variable(tensor: Tensor) -> Tensor:
            return tensor if tensor.requires_grad else tensor.detach().requires_grad_()

        wanted: dict[str, Tensor] = {}
        if forces or stress:
            wanted["positions"] = variable(graph.positions)
        if stress:
            wanted["cell"] = variable(graph.cell)
        if magnetic_forces and self.config.rules.magnetic:
            wanted["magmoms"] = variable(graph.magmoms)
        node_energy = self.node_energies(replace(graph, **wanted))
        energy = node_energy.new_zeros(graph.num_structures).index_add(0, graph.structure, node_energy)
        out = {"energy": energy, "node_energy": node_energy}
        if wanted:
            with no_weight_gradients():
                gradients = torch.autograd.grad(
                    node_energy,
                    list(wanted.values()),
                    torch.ones_like(node_energy),
                    create_graph=create_graph,
                    materialize_grads=True,
                )
            of = dict(zip(wanted, gradients, strict=True))
            if forces:
                out["forces"] = -of["positions"]
            if stress:
                virial = _strain_derivative(wanted["positions"], wanted["cell"], of["positions"], of["cell"], graph)
                out["stress"] = virial / graph.volume[:, None, None]
            if "magmoms" in of:
                out["magnetic_forces"] = -of["magmoms"]
        if magnetic_forces and not self.config.rules.magnetic:
            out["magnetic_forces"] = torch.zeros_like(graph.magmoms)
        if not create_graph:
            out = {name: tensor.detach() for name, tensor in out.items()}
        return out


def _check_heads(graph: Graph, heads: tuple[str, ...]) -> None:
    if len(graph.head) and not 0 <= (number := int(graph.head.max())) < len(heads):
        known = f"head 0 ({heads[0]}) only" if len(heads) == 1 else f"heads 0 to {len(heads) - 1} ({', '.join(heads)})"
        raise UserError(f"build_graph: head = {number}; the model has {known}")


def _of_head(values: Tensor, graph: Graph) -> Tensor:
    """[N] of ``values`` [N, heads]: each atom's by the head of its structure."""
    if values.shape[1] == 1:
        return values.squeeze(1)
    return values.gather(1, graph.head[graph.structure].unsqueeze(1)).squeeze(1)


def _strain_derivative(positions: Tensor, cell: Tensor, by_positions: Tensor, by_cell: Tensor, graph: Graph) -> Tensor:
    """dE/dε [S,3,3] from dE/dr and dE/dh: a strain moves each position r and each cell vector h to r + ε·r, h + ε·h."""
    full = torch.bmm(by_cell.transpose(1, 2), cell)
    full = full.index_add(0, graph.structure, by_positions.unsqueeze(2) * positions.unsqueeze(1))
    return 0.5 * (full + full.transpose(1, 2))
