"""What a convergence study scans, on which quantities it decides, and how large an error may be."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mmace.errors import UserError, unknown_key_message
from mmace_flows.schemas.document import Document

Quantity = Literal["energy", "forces", "stress", "moments", "anisotropy"]
QUANTITIES: tuple[Quantity, ...] = ("energy", "forces", "stress", "moments", "anisotropy")
Parameter = Literal["cutoff", "kpoints", "smearing"]
PARAMETERS: tuple[Parameter, ...] = ("cutoff", "kpoints", "smearing")  # in the order in which they are scanned
Value = float | tuple[int, int, int]  # eV, Å⁻¹ or a grid

# Of an error in the energy, eV per atom, those of the other quantities that count alike: 1 meV per atom goes with
# 5 meV/Å, 0.1 GPa, 0.01 μB, and with 0.05 meV per atom in E(x) − E(z), which is a thousand times smaller than energies.
GPA = 0.006241509  # eV/Å³
ALIKE: dict[Quantity, float] = {
    "energy": 1.0,
    "forces": 5.0,
    "stress": 100.0 * GPA,
    "moments": 10.0,
    "anisotropy": 0.05,
}
# quantity → unit for people, and how many of it are one of the unit inside
UNITS: dict[Quantity, tuple[str, float]] = {
    "energy": ("meV/atom", 1e3),
    "forces": ("meV/Å", 1e3),
    "stress": ("GPa", 1.0 / GPA),
    "moments": ("μB", 1.0),
    "anisotropy": ("meV/atom", 1e3),
}
# engine → what is scanned unless said otherwise: cutoffs eV, spacings Å⁻¹ without the 2π, widths eV
DEFAULTS: dict[str, dict[str, list[float]]] = {
    "gpaw": {
        "cutoffs": [300.0, 400.0, 500.0, 600.0],
        "spacings": [0.08, 0.065, 0.05, 0.04],
        "smearings": [0.2, 0.1, 0.05],
    },
    "espresso": {
        "cutoffs": [410.0, 540.0, 680.0, 820.0],
        "spacings": [0.08, 0.065, 0.05, 0.04],
        "smearings": [0.2, 0.1, 0.05],
    },
    "vasp": {
        "cutoffs": [300.0, 400.0, 500.0, 600.0],
        "spacings": [0.08, 0.065, 0.05, 0.04],
        "smearings": [0.2, 0.1, 0.05],
    },
}


class ConvergenceSettings(Document):
    """One study: cutoff, then density of k-points, then smearing, each from coarse to fine."""

    engine: str = Field(default="gpaw", description="gpaw, espresso or vasp")
    dft: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the engine that differ from its defaults; cutoff, k-points and smearing in here are "
        "where the study starts (else: the middle of what is scanned)",
    )
    cutoffs: list[float] = Field(min_length=1, description="plane-wave cutoffs, eV; a single one is not scanned")
    kpoints: list[Value] = Field(
        min_length=1, description="largest spacings of the grid, Å⁻¹ without the 2π, or grids like (4, 4, 2)"
    )
    smearings: list[float] = Field(min_length=1, description="widths of the occupations, eV")
    quantities: list[Quantity] = Field(
        default=["energy", "forces"], min_length=1, description="what has to be within its tolerance"
    )
    tolerances: dict[Quantity, float] = Field(
        default_factory=lambda: tolerances_from("2meV", ["energy", "forces"]),
        description="largest error of each quantity: eV per atom, eV/Å, eV/Å³, μB, eV per atom",
    )

    @field_validator("cutoffs", "kpoints", "smearings", mode="after")
    @classmethod
    def _coarse_to_fine(cls, values: list[Any], info: Any) -> list[Any]:
        if len({isinstance(value, tuple) for value in values}) > 1:
            raise ValueError("give spacings or grids, not both")
        for value in values:
            if min(value if isinstance(value, tuple) else (value,)) <= 0:
                raise ValueError(f"{value} is not possible; give positive numbers")
        return sorted(set(values), key=lambda value: _fineness(str(info.field_name), value))

    @model_validator(mode="after")
    def _possible(self) -> ConvergenceSettings:
        if len(self.cutoffs) == len(self.kpoints) == len(self.smearings) == 1:
            raise ValueError("nothing to scan: give two values at least of cutoffs, kpoints or smearings")
        if "anisotropy" in self.quantities and self.engine != "gpaw":
            raise ValueError("anisotropy is computed with gpaw only (force theorem); take engine gpaw")
        return self

    @property
    def labels(self) -> bool:
        """Whether labels are needed, and not the anisotropy alone."""
        return self.quantities != ["anisotropy"]

    @property
    def anisotropy(self) -> bool:
        """Whether energies with spin–orbit coupling are needed."""
        return "anisotropy" in self.quantities

    def values(self, parameter: Parameter) -> list[Any]:
        """What a parameter is scanned over, from coarse to fine."""
        lists: dict[Parameter, list[Any]] = {
            "cutoff": self.cutoffs,
            "kpoints": self.kpoints,
            "smearing": self.smearings,
        }
        return lists[parameter]

    def start(self) -> dict[str, Any]:
        """Settings of the engine before anything is scanned, complete and JSON-able. UserError if they are wrong."""
        chosen = dict(self.dft)
        for parameter in PARAMETERS:
            values = self.values(parameter)
            if len(values) == 1 or not any(self.dft.get(field) is not None for field in FIELDS[parameter]):
                chosen |= fields_of(parameter, values[len(values) // 2])
        return checked(self.engine, chosen)


# parameter → fields of the engines' settings that say it
FIELDS: dict[Parameter, tuple[str, ...]] = {
    "cutoff": ("cutoff",),
    "kpoints": ("kpoints", "kpoint_spacing"),
    "smearing": ("smearing_width",),
}


def fields_of(parameter: Parameter, value: Any) -> dict[str, Any]:
    """A parameter's value as fields of the engines' settings."""
    if parameter == "kpoints":
        grid = isinstance(value, tuple | list)
        return {"kpoints": list(value) if grid else None, "kpoint_spacing": None if grid else value}
    return {FIELDS[parameter][0]: value}


def checked(engine: str, values: dict[str, Any]) -> dict[str, Any]:
    """Complete settings of an engine, JSON-able. UserError that names the field."""
    from mmace_flows.labels.engine import settings_class

    kind: Any = settings_class(engine)
    for key in values:
        if key not in kind.model_fields:
            raise UserError(unknown_key_message(str(key), kind.model_fields, f"settings of {engine}"))
    try:
        made: dict[str, Any] = kind.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"settings of {engine}: {field + ': ' if field else ''}{message}") from error
    return made


def _fineness(field: str, value: Any) -> float:
    """Sorts from coarse to fine: larger cutoffs and grids are finer, larger spacings and widths are coarser."""
    if isinstance(value, tuple):
        return float(prod(value))
    return float(value) if field == "cutoffs" else -float(value)


def tolerances_from(text: str, quantities: list[Quantity]) -> dict[Quantity, float]:
    """Tolerances of all quantities of ``2meV`` or ``energy=2meV,forces=20meV/Å``, in the units inside.

    A number without a quantity is the energy's, or that of the only quantity that is decided on; the others follow by
    `ALIKE`. Raises UserError.
    """
    given: dict[Quantity, float] = {}
    for part in text.replace(",", " ").split():
        name, equals, number = part.partition("=")
        if not equals:
            name, number = (quantities[0] if len(quantities) == 1 else "energy"), part
        if name not in QUANTITIES:
            raise UserError(unknown_key_message(name, QUANTITIES, "--tolerance"))
        given[name] = _amount(name, number, part)  # type: ignore[index, arg-type]
    if not given:
        raise UserError("--tolerance: nothing is given; write for example 2meV")
    known = "energy" if "energy" in given else next(iter(given))
    scale = given[known] / ALIKE[known]  # type: ignore[index]
    return {name: given.get(name, scale * ALIKE[name]) for name in QUANTITIES}


def _amount(quantity: Quantity, text: str, part: str) -> float:
    units = {
        "energy": {"meV": 1e-3, "eV": 1.0, "meV/atom": 1e-3, "eV/atom": 1.0},
        "forces": {"meV": 1e-3, "eV": 1.0, "meV/Å": 1e-3, "eV/Å": 1.0, "meV/A": 1e-3, "eV/A": 1.0},
        "stress": {"GPa": GPA, "kbar": 0.1 * GPA},
        "moments": {"μB": 1.0, "muB": 1.0, "uB": 1.0},
        "anisotropy": {"ueV": 1e-6, "µeV": 1e-6, "μeV": 1e-6, "meV": 1e-3, "meV/atom": 1e-3, "eV": 1.0},
    }[quantity]
    digits = text.rstrip("".join(sorted(set("".join(units)) - set("0123456789."))))
    unit = text[len(digits) :].strip()
    try:
        number = float(digits)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf") or unit not in units:
        raise UserError(f"--tolerance {part}: write a positive number and its unit ({', '.join(units)})")
    return number * units[unit]
