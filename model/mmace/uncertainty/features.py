"""Last-layer features: the gradient of an atom's energy with respect to the weights of the last readout.

A potential whose other weights are held is a regression in these weights; close to the trained weights it is linear,
and the gradients are its features. They come from the public features of the potential and its last readout, whatever
the layers before are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from ase import Atoms
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mmace.config import PotentialConfig
from mmace.graph import Graph, build_graph
from mmace.native import plain_torch
from mmace.potential import Potential


def last_layer_features(model: Potential, graph: Graph) -> Tensor:
    """Gradients of the atoms' energies with respect to the last readout's weights [N,P], float64, in eV.

    The sum over the atoms of a structure is the gradient of its energy.
    """
    readout = model.readouts[-1]
    weights = {name: parameter.detach() for name, parameter in readout.named_parameters()}
    with torch.no_grad():
        scalars = model.node_features(graph)[0][-1].detach()  # [N,K]
    heads = graph.head.index_select(0, graph.structure)  # [N]

    def energy(values: dict[str, Tensor], scalar: Tensor, head: Tensor) -> Tensor:
        return functional_call(readout, values, (scalar.unsqueeze(0),)).squeeze(0).gather(0, head.unsqueeze(0)).sum()

    with plain_torch():
        gradients = vmap(grad(energy), in_dims=(None, 0, 0))(weights, scalars, heads)
    rows = torch.cat([gradients[name].reshape(scalars.shape[0], -1) for name in weights], dim=1)
    return model.energy_scale.double() * rows.double()


def number_of_features(readout: nn.Module) -> int:
    """P: the number of weights of a readout."""
    return sum(parameter.numel() for parameter in readout.parameters())


def structure_means(atom_features: Tensor, graph: Graph) -> Tensor:
    """Mean over the atoms of each structure: [N,P] → [S,P]."""
    sums = atom_features.new_zeros(graph.num_structures, atom_features.shape[1])
    sums.index_add_(0, graph.structure, atom_features)
    return sums / graph.num_atoms.to(sums.dtype).unsqueeze(1)


def graphs_of(
    config: PotentialConfig, structures: Sequence[Atoms], batch_size: int, device: torch.device
) -> Iterator[Graph]:
    """Batches of up to ``batch_size`` structures, in order. Raises as `build_graph` does."""
    for start in range(0, len(structures), batch_size):
        chunk = structures[start : start + batch_size]
        yield build_graph(chunk, config.elements, config.r_max, dtype=config.torch_dtype).to(device=device)
