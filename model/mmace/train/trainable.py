"""Which weights a training moves: all, the last ones, or changes of low rank. The one place that selects them.

Names of weights in a `Potential`: ``embedding``; ``layers.<t>.…`` with the radial functions ``message.…``, the channel
mixes ``product.mix``, ``mix`` and ``mix_own``, the products ``product.weights``, the own moment ``own.radial``;
``readouts.<t>.weights.<n>``. Those of an anisotropy part have ``anisotropy.`` in front.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmace.errors import UserError
from mmace.potential import Potential


@dataclass(frozen=True)
class Selection:
    """Names of weights that are trained as they are, and of those that change by matrices of low rank."""

    whole: tuple[str, ...]
    factored: tuple[str, ...]


def select(model: Potential, trainable: str, rank: int) -> Selection:
    """What ``trainable`` means for ``model``.

    all: every weight. anisotropy: those of the anisotropy part; exchange: all others. last: the readouts of all layers,
    and the last layer's product weights (per element, coupling and channel). low-rank: every matrix inside the layers
    (radial networks, mixes, product weights, residuals) that has more than ``rank`` rows and columns changes by a
    matrix of that rank; smaller ones and the readouts are trained as they are; the element embedding stays.
    Raises `UserError` for a part that the model does not have.
    """
    parameters = dict(model.named_parameters())
    if trainable == "all":
        return Selection(tuple(parameters), ())
    if trainable in ("anisotropy", "exchange"):
        if model.anisotropy is None:
            raise UserError(f"training: trainable is {trainable!r}, but the model has no anisotropy part; give all")
        wanted = trainable == "anisotropy"
        return Selection(tuple(name for name in parameters if name.startswith("anisotropy.") == wanted), ())
    last = len(model.layers) - 1
    readouts = [name for name in parameters if re.fullmatch(r"readouts\.\d+\..+", name)]
    if trainable == "last":
        product = [name for name in parameters if re.fullmatch(rf"layers\.{last}\.product\.weights(\..+)?", name)]
        assert readouts and product, "the names of the potential's weights have changed: mend the patterns here"
        return Selection((*product, *readouts), ())
    inside = [name for name, value in parameters.items() if name.startswith("layers.") and value.ndim >= 2]
    factored = [name for name in inside if min(parameters[name].shape[-2:]) > rank]
    assert readouts and inside, "the names of the potential's weights have changed: mend the patterns here"
    return Selection((*(name for name in inside if name not in factored), *readouts), tuple(factored))


class Trainable:
    """The numbers that an optimiser moves, and their way into the weights of a model.

    A weight W [..., a, b] of low rank is W₀ + A·B/√rank, A [..., a, rank], B [..., rank, b]. B starts at zero, so that
    training starts from the model as it is. The model always holds the sum: whoever evaluates or saves it needs to know
    nothing of the factors.
    """

    def __init__(self, model: Potential, trainable: str = "all", rank: int = 4, seed: int = 0) -> None:
        self.model, self.rank = model, rank
        selection = select(model, trainable, rank)
        weights = dict(model.named_parameters())
        moved = {*selection.whole, *selection.factored}
        for name, weight in weights.items():
            weight.requires_grad_(name in moved)
        self.whole = {name: weights[name] for name in selection.whole}
        self.start = {name: weights[name].detach().clone() for name in selection.factored}
        self.factors: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        generator = torch.Generator().manual_seed(seed)
        for name, start in self.start.items():
            *more, rows, columns = start.shape
            one = torch.randn(*more, rows, rank, generator=generator, dtype=start.dtype).to(start.device)
            self.factors[name] = (nn.Parameter(one), nn.Parameter(start.new_zeros(*more, rank, columns)))

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser moves, in a fixed order."""
        return [*self.whole.values(), *(factor for pair in self.factors.values() for factor in pair)]

    @torch.no_grad()
    def pull_gradients(self) -> None:
        """After `backward`: gradients of the factors from those of their weights."""
        for name, weight in self._weights():
            one, other = self.factors[name]
            if weight.grad is not None:
                gradient = weight.grad / math.sqrt(self.rank)
                one.grad = gradient @ other.transpose(-1, -2)
                other.grad = one.transpose(-1, -2) @ gradient
            weight.grad = None

    @torch.no_grad()
    def push_weights(self) -> None:
        """After a change of the factors: the weights that follow from them."""
        for name, weight in self._weights():
            one, other = self.factors[name]
            weight.copy_(self.start[name] + one @ other / math.sqrt(self.rank))

    def copied(self) -> Trainable:
        """The same over a copy of the model that wants no gradients."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        weights = dict(other.model.named_parameters())
        for weight in weights.values():
            weight.requires_grad_(False)
            weight.grad = None
        other.whole = {name: weights[name] for name in self.whole}
        other.factors = {name: (_still(pair[0]), _still(pair[1])) for name, pair in self.factors.items()}
        return other

    def tensors(self) -> dict[str, Tensor]:
        """The factors, for the state on disk; the weights stand in the model's."""
        return {f"{name}:{n}": factor.detach() for name, pair in self.factors.items() for n, factor in enumerate(pair)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        for name, pair in self.factors.items():
            for number, factor in enumerate(pair):
                factor.copy_(tensors[f"{name}:{number}"])

    def count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        weights = dict(self.model.named_parameters()) if self.factors else {}
        return ((name, weights[name]) for name in self.factors)


def _still(factor: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(factor.detach().clone(), requires_grad=False)
