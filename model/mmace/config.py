"""What defines a potential: every hyper-parameter, checked."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

import torch

from mmace.coupling import SYMMETRIES, Irrep, SymmetryRules
from mmace.errors import UserError, unknown_key_message

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class PotentialConfig:
    """Hyper-parameters of a potential. Raises UserError for values that make no sense."""

    elements: list[str]  # chemical symbols the model knows
    symmetry: str = "soc"  # soc, nonsoc, paper, or none (no moments: plain MACE)
    r_max: float = 5.0  # cutoff radius, Å
    num_layers: int = 1  # message-passing layers
    hidden: str = "64x0e"  # hidden irreps: channels x degree and parity; one number of channels
    l_pos: int = 3  # largest degree of the spherical harmonics of positions, and of A
    l_mag: int = 1  # largest degree of the solid harmonics of moments
    correlation: int = 3  # ν, the largest number of multiplied A
    num_bessel: int = 10  # radial functions of distances
    num_chebyshev: int = 8  # polynomials of the squared length of a moment
    m_max: dict[str, float] = field(default_factory=dict)  # μB per element; 4.0 where not given
    radial_hidden: tuple[int, ...] = (64, 64, 64)  # hidden layers of the radial networks
    readout_hidden: int = 16  # width of the last readout
    density_normalization: bool = True  # divide A by 1 + Σ of a learned edge density; else by the average neighbours
    distance_transform: str = "none"  # none, or agnesi: resolution where atoms touch
    pair_repulsion: bool = False  # add the screened nuclear repulsion of close pairs
    moment_wall: float = 20.0  # eV: an atom with |m| > m_max pays wall·((|m|/m_max)² − 1)³
    heads: tuple[str, ...] = ("default",)  # one per level of theory
    seed: int = 0  # of the initial weights
    dtype: str = "float64"  # of weights and inputs
    anisotropy: PotentialConfig | None = None  # settings of a second potential, with soc, whose energy is added

    DEFAULT_M_MAX = 4.0

    def __post_init__(self) -> None:
        def refuse(name: str, mend: str) -> None:
            raise UserError(f"potential: {name} = {getattr(self, name)!r}; {mend}")

        from ase.data import atomic_numbers

        if isinstance(self.elements, str) or not self.elements:
            refuse("elements", 'give a list of chemical symbols, for example ["Fe", "Ni"]')
        if len(set(self.elements)) != len(self.elements):
            refuse("elements", "an element stands there twice")
        for element in self.elements:
            if element not in atomic_numbers or element == "X":
                refuse("elements", f"{element!r} is not a chemical symbol")
        if self.symmetry not in SYMMETRIES:
            raise UserError(unknown_key_message(str(self.symmetry), SYMMETRIES, "potential: symmetry"))
        for name, low, high in (("num_layers", 1, 3), ("l_pos", 0, 4), ("l_mag", 0, 3), ("correlation", 1, 3)):
            if not low <= getattr(self, name) <= high:
                refuse(name, f"must be from {low} to {high}")
        for name in ("num_bessel", "num_chebyshev", "readout_hidden"):
            if getattr(self, name) < 1:
                refuse(name, "must be at least 1")
        if self.distance_transform not in ("none", "agnesi"):
            refuse("distance_transform", "must be none or agnesi")
        if not self.r_max > 0:
            refuse("r_max", "must be positive, in Å")
        if self.dtype not in DTYPES:
            refuse("dtype", "must be float32 or float64")
        for element, value in self.m_max.items():
            if element not in self.elements:
                refuse("m_max", f"{element} is not among the elements {', '.join(self.elements)}")
            if not value > 0:
                refuse("m_max", f"{element} needs a positive value, in μB")
        object.__setattr__(self, "radial_hidden", tuple(self.radial_hidden))
        object.__setattr__(self, "heads", tuple(self.heads))
        object.__setattr__(self, "elements", list(self.elements))
        if not self.heads:
            refuse("heads", "at least one is needed")
        if len(set(self.heads)) != len(self.heads) or not all(isinstance(head, str) and head for head in self.heads):
            refuse("heads", "give different names, for example [pbe, r2scan]")
        self._parse_hidden()
        if self.anisotropy is not None:
            object.__setattr__(self, "anisotropy", self._part(self.anisotropy))

    def _part(self, given: PotentialConfig | dict[str, Any]) -> PotentialConfig:
        """The anisotropy part, which shares what belongs to inputs. The wall beyond m_max is no anisotropy."""
        part = given if isinstance(given, PotentialConfig) else None
        if part is None:
            if not isinstance(given, dict):
                raise UserError(
                    f"potential: anisotropy = {given!r}; give settings of a potential, for example l_mag: 3"
                )
            shared = {"elements": self.elements, "seed": self.seed}
            part = PotentialConfig.from_dict({**shared, **given}, "potential: anisotropy")
        if self.symmetry != "nonsoc" or part.symmetry != "soc" or part.anisotropy is not None:
            raise UserError(
                f"potential: anisotropy: a part with symmetry soc is added to one with nonsoc, not {part.symmetry} to "
                f"{self.symmetry}; train energies with symmetry nonsoc first"
            )
        inputs = {name: getattr(self, name) for name in ("elements", "r_max", "m_max", "heads", "dtype")}
        return dataclasses.replace(part, **inputs, moment_wall=0.0, pair_repulsion=False)

    def _parse_hidden(self) -> tuple[int, list[int]]:
        channels: set[int] = set()
        degrees: list[int] = []
        for part in self.hidden.replace(" ", "").split("+"):
            match = re.fullmatch(r"(\d+)x(\d)([eo])", part)
            if not match or int(match[1]) < 1:
                raise UserError(f"potential: hidden = {self.hidden!r}; write it like 64x0e or 128x0e+128x1o")
            degree = int(match[2])
            if match[3] != "eo"[degree % 2]:
                raise UserError(
                    f"potential: hidden = {self.hidden!r}; only natural parities are carried: 0e, 1o, 2e, 3o"
                )
            channels.add(int(match[1]))
            degrees.append(degree)
        if len(channels) != 1 or len(set(degrees)) != len(degrees) or 0 not in degrees or max(degrees) > self.l_pos:
            raise UserError(
                f"potential: hidden = {self.hidden!r}; needs 0e, one number of channels for all, no degree twice, "
                f"none above l_pos = {self.l_pos}"
            )
        return channels.pop(), sorted(degrees)

    @property
    def channels(self) -> int:
        """K."""
        return self._parse_hidden()[0]

    @property
    def rules(self) -> SymmetryRules:
        """How positions and moments enter."""
        return SymmetryRules(self.symmetry)

    @property
    def hidden_irreps(self) -> list[Irrep]:
        """Hidden irreps; they belong to positions and are even under time reversal."""
        return [self.rules.position(degree) for degree in self._parse_hidden()[1]]

    @property
    def torch_dtype(self) -> torch.dtype:
        """Floating-point type of weights and inputs."""
        return DTYPES[self.dtype]

    def m_max_of(self, element: str) -> float:
        """Largest moment of an element, μB."""
        return self.m_max.get(element, self.DEFAULT_M_MAX)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        data = dataclasses.asdict(self)
        data["radial_hidden"], data["heads"] = list(self.radial_hidden), list(self.heads)
        data.pop("anisotropy")  # absent where there is none, so that hashes of such models stay as they were
        if self.anisotropy is not None:
            data["anisotropy"] = self.anisotropy.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "potential") -> PotentialConfig:
        """From a dictionary. Raises UserError for unknown keys, naming the nearest right one."""
        known = {item.name for item in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                raise UserError(unknown_key_message(key, known, where))
        if "elements" not in data:
            raise UserError(f"{where}: elements is missing; give a list of chemical symbols")
        return cls(**data)
