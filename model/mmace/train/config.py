"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmace.errors import UserError, unknown_key_message
from mmace.fields import ENERGY, FORCES, MAGNETIC_FORCES, STRESS
from mmace.train.stages import Stage, checked_stages, checked_weights

SCHEDULES = ("constant", "plateau", "cosine")
DEVICES = ("auto", "cpu", "cuda")
ATOMIC_ENERGIES = ("least_squares", "isolated_atoms", "shift")
TRAINABLE = ("all", "last", "low-rank", "exchange", "anisotropy")

# Settings that may change between a run and its continuation: they decide when it stops and what it costs,
# not which weights it passes through.
FREE_TO_CHANGE = frozenset(
    {"epochs", "patience", "num_threads", "device", "max_seconds", "checkpoint_every", "checkpoint_seconds"}
)


def default_weights() -> dict[str, float]:
    """Weights of the squared errors in eV/atom, eV/Å, eV/Å³ and eV/μB.

    Chosen so that the terms are of one size at errors worth having (5 meV/atom, 50 meV/Å, 1 GPa, 50 meV/μB). The
    paper's 1 : 10 : 5 leaves energies and stress behind for as long as forces are above some meV/Å.
    """
    return {ENERGY.name: 100.0, FORCES.name: 10.0, STRESS.name: 500.0, MAGNETIC_FORCES.name: 10.0}


@dataclass
class TrainingConfig:
    """Settings of a training run. Raises `UserError` for values that cannot be meant."""

    epochs: int = 200
    """Passes over the training configurations."""
    batch_size: int = 8
    """Configurations per optimiser step, over all processes together."""
    edges_per_batch: int | None = None
    """Fill batches up to this many places for neighbours (atoms × neighbours of the densest atom) instead of with
    batch_size configurations, over all processes together; None: by batch_size."""
    learning_rate: float = 0.005
    """Of Adam at the start; 0.0005 is right for fine-tuning."""
    amsgrad: bool = True
    """The AMSGrad variant of Adam."""
    ema_decay: float | None = 0.99
    """Decay per step of the moving average of the weights that is validated and kept; None: no average."""
    clip: float | None = 100.0
    """Largest norm of the gradient; 10 is right for fine-tuning; None: no clipping."""
    weights: dict[str, float] = field(default_factory=default_weights)
    """Weight of energy (per atom), forces, stress and magnetic_forces in the loss; 0: not trained on."""
    anisotropy_weight: float = 1.0
    """Weight of the squared relative errors of E_A, where energies of directions are known; 0: not trained on."""
    isotropic_weight: float = 0.01
    """Weight of the mean over directions of the anisotropy part, relative to the size of E_A: it belongs elsewhere."""
    directions_per_step: int | None = 8
    """Directions of a structure that are drawn for each step; None: all of them."""
    stages: list[Stage] = field(default_factory=list)
    """Later stages: each has start (epochs before it), and weights and learning_rate that hold from then on. The best
    model is sought anew in each; the best of the stage before is kept as model-stage-N.safetensors."""
    huber_delta: float | None = None
    """Errors larger than this (in the label's own unit) count linearly instead of squared; None: always squared."""
    schedule: str = "plateau"
    """Learning rate: "constant"; "plateau": × plateau_factor after plateau_epochs without a better validation loss;
    "cosine": falls to minimum_learning_rate over all epochs."""
    plateau_factor: float = 0.8
    """Factor on the learning rate at a plateau."""
    plateau_epochs: int = 25
    """Epochs without a better validation loss that make a plateau."""
    minimum_learning_rate: float = 1e-5
    """The schedule never goes below."""
    patience: int | None = None
    """Stop after this many epochs without a better validation loss; None: never."""
    seed: int = 0
    """Seeds the order of the configurations and the random rotations."""
    rotate_jointly: bool = False
    """Turn every structure with its moments and labels by a random rotation in each step."""
    rotate_moments: bool = False
    """Turn all moments of a structure by one more random rotation in each step: right for data without spin–orbit
    coupling, whose energy does not depend on it."""
    atomic_energies: str | dict[str, Any] | None = None
    """E0 of a free atom: "least_squares" of the energies on the composition; "isolated_atoms": the lowest energy of the
    training configurations of one atom without neighbours; a mapping of element to eV, or of head to such a mapping;
    "shift", when starting from a model: its E0 plus what its energies lack, by least squares;
    None: least squares for a new model, unchanged when starting from a model."""
    one_body: dict[str, Any] | None = None
    """E0_mag(|m|) of a new model: element → curve, from `mmace.one_body_file.load_one_body`; None: zero."""
    trainable: str = "all"
    """Weights that are trained: "all"; "last": readouts and the last layer's product weights; "low-rank": all matrices
    inside the layers change by matrices of rank ``rank``, readouts are trained as they are; of a model with an
    anisotropy part also "anisotropy", that part alone, and "exchange", the rest alone."""
    rank: int = 4
    """Of the changes with trainable: low-rank."""
    energy_scale: float | None = None
    """Scale of the interaction energy, eV; None: the new model's forces are made as large as the labels."""
    num_threads: int | None = None
    """CPU threads of torch; None: as torch is set."""
    device: str = "auto"
    """What the model runs on: "cpu", "cuda", or "auto": cuda where there is one."""
    max_seconds: float | None = None
    """Stop after this time, counted over all continuations of the run; None: never."""
    validate_every: int = 1
    """Epochs between validations; only validated epochs can become the best and stand in the history."""
    checkpoint_every: int = 10
    """Epochs between written states."""
    checkpoint_seconds: float = 30.0
    """A state is also written, within an epoch too, when the last one is older than this."""

    def __post_init__(self) -> None:
        self.weights = {**default_weights(), **checked_weights(self.weights, "training: weights")}
        self.stages = checked_stages(self.stages)
        self._require("epochs", self.epochs >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 1, "at least 1")
        edges = self.edges_per_batch
        self._require("edges_per_batch", edges is None or edges >= 1, "at least 1, or null")
        per_step = self.directions_per_step
        self._require("directions_per_step", per_step is None or per_step >= 2, "at least 2, or null")
        self._require("anisotropy_weight", 0 <= self.anisotropy_weight < math.inf, "a number that is not negative")
        self._require("isotropic_weight", 0 <= self.isotropic_weight < math.inf, "a number that is not negative")
        self._require("device", self.device in DEVICES, f"one of {', '.join(DEVICES)}")
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "a positive number")
        self._require("ema_decay", self.ema_decay is None or 0 <= self.ema_decay < 1, "from 0 to below 1, or null")
        self._require("clip", self.clip is None or self.clip > 0, "a positive number or null")
        self._require("huber_delta", self.huber_delta is None or self.huber_delta > 0, "a positive number or null")
        self._require("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        self._require("plateau_factor", 0 < self.plateau_factor < 1, "between 0 and 1")
        self._require("plateau_epochs", self.plateau_epochs >= 1, "at least 1")
        self._require("minimum_learning_rate", self.minimum_learning_rate >= 0, "not negative")
        self._require("patience", self.patience is None or self.patience >= 1, "at least 1, or null")
        self._require("seed", self.seed >= 0, "not negative")
        self._require("trainable", self.trainable in TRAINABLE, f"one of {', '.join(TRAINABLE)}")
        self._require("rank", self.rank >= 1, "at least 1")
        sources = self.atomic_energies
        good = sources is None or isinstance(sources, dict) or sources in ATOMIC_ENERGIES
        self._require("atomic_energies", good, f"one of {', '.join(ATOMIC_ENERGIES)}, or a mapping of element to eV")
        self._require("energy_scale", self.energy_scale is None or self.energy_scale > 0, "a positive number or null")
        self._require("num_threads", self.num_threads is None or self.num_threads >= 1, "at least 1, or null")
        self._require("max_seconds", self.max_seconds is None or self.max_seconds > 0, "a positive number or null")
        self._require("validate_every", self.validate_every >= 1, "at least 1")
        self._require("checkpoint_every", self.checkpoint_every >= 1, "at least 1")
        self._require("checkpoint_seconds", self.checkpoint_seconds > 0, "a positive number")

    def _require(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise UserError(f"training: {name} is {getattr(self, name)!r}; give {wanted}")

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "training") -> TrainingConfig:
        """From a mapping of settings. Raises `UserError` for unknown keys and wrong types, naming ``where``."""
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                raise UserError(unknown_key_message(str(key), known, where))
        default = cls()
        values = {key: _converted(value, getattr(default, key), key, where) for key, value in data.items()}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files and hashes."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """The settings that decide which weights the run passes through."""
        free = set(FREE_TO_CHANGE)
        if self.schedule == "cosine":  # its learning rate depends on the number of epochs
            free.remove("epochs")
        return {key: value for key, value in self.to_dict().items() if key not in free}


_OPTIONAL_NUMBERS = {"ema_decay", "clip", "huber_delta", "energy_scale", "max_seconds"}
_OPTIONAL_INTEGERS = {"directions_per_step", "patience", "num_threads", "edges_per_batch"}


def _converted(value: Any, default: Any, key: str, where: str) -> Any:
    """``value`` in the type of the setting; YAML reads "1e-3" as text, which is meant as a number."""
    if key == "stages":
        return checked_stages(value, where)
    if key in ("atomic_energies", "one_body"):
        return value
    optional = key in _OPTIONAL_NUMBERS | _OPTIONAL_INTEGERS
    if value is None and optional:
        return None
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise UserError(f"{where}: {key} is {value!r}; give true or false")
    if isinstance(default, dict):
        if isinstance(value, dict):
            return value
        raise UserError(f"{where}: {key} is {value!r}; give a mapping of label to weight")
    if isinstance(default, str):
        return str(value)
    integer = isinstance(default, int) or key in _OPTIONAL_INTEGERS
    try:
        number = float(value)
        if isinstance(value, bool) or (integer and number != int(number)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: {key} is {value!r}; give {'a whole number' if integer else 'a number'}") from None
    return int(number) if integer else number
