"""Predictions of anisotropy that are kept: found in the store by content, else made and stored; also as a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Job, Maker, job

from mmace_flows.properties.anisotropy_prediction import (
    PredictionSettings,
    Problem,
    committee_hash,
    predict_anisotropy,
)
from mmace_flows.schemas.anisotropy_entry import AnisotropyPrediction, prediction_key
from mmace_flows.schemas.structure import MagneticStructure

if TYPE_CHECKING:
    from mmace import Potential

SAY_EVERY = 10.0  # seconds between events
PIECE = 50  # structures that are predicted, and then kept, together: what a kill may cost


def find_or_predict(
    stores: Any,
    models: Sequence[Potential],
    structures: Sequence[MagneticStructure],
    settings: PredictionSettings,
    campaign: str,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Problem | None = None,
) -> tuple[list[AnisotropyPrediction], int]:
    """Predictions in the order of ``structures``, and how many of them had to be made; those are in the store then.

    ``progress(done, all)`` counts what was to be made; ``on_problem``: as of `predict_anisotropy`, which may raise
    UserError without it; what was made before is kept.
    """
    keys, known, made = _known(stores, models, structures, settings, campaign, progress, on_problem)
    return [known[key] for key in keys if key in known], made


def _known(
    stores: Any,
    models: Sequence[Potential],
    structures: Sequence[MagneticStructure],
    settings: PredictionSettings,
    campaign: str,
    progress: Callable[[int, int], None] | None,
    on_problem: Problem | None,
) -> tuple[list[str], dict[str, AnisotropyPrediction], int]:
    """The key that each structure's prediction has, the predictions that there are now, and how many were to be made.

    Other parameters: as of `find_or_predict`.
    """
    name = committee_hash(models)
    keys = [prediction_key(structure, name, settings.model_dump()) for structure in structures]
    known = {
        one["prediction_key"]: AnisotropyPrediction.from_store(one)
        for one in stores.predictions.query({"prediction_key": {"$in": sorted(set(keys))}})
    }
    missing = {key: one for key, one in zip(keys, structures, strict=True) if key not in known}
    wanted = list(missing.values())
    for start in range(0, len(wanted), PIECE):

        def tell(done: int, _: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, len(wanted))

        made = predict_anisotropy(models, wanted[start : start + PIECE], settings, campaign, tell, on_problem)
        if made:
            stores.predictions.update([one.model_dump(mode="json") for one in made], key="prediction_key")
        known |= {one.prediction_key: one for one in made}
    return keys, known, len(wanted)


@dataclass(frozen=True)
class Chunk:
    """What models from the store say of a chunk of structures."""

    keys: list[str | None]  # of the predictions, in the order of the structures; None for what cannot be predicted
    made: int  # those that were not in the store
    failed: dict[str, str]  # structure hash → why it cannot be predicted
    seconds: float


def predict_chunk(
    stores: Any,
    campaign: str,
    structures: Sequence[MagneticStructure],
    models: Sequence[str],
    settings: PredictionSettings,
    stage: str = "predict",
    part: str = "",
) -> Chunk:
    """What a worker does: load the models, predict what is not there, tell.

    ``models``: hashes of the members of a committee, or of one model; ``stage`` and ``part`` as in the job's name.
    """
    from mmace import from_bytes

    started = time.monotonic()
    committee = [from_bytes(stores.load_model(key), f"model {key}")[0].eval() for key in models]
    said = [started]

    def tell(done: int, total: int) -> None:
        if time.monotonic() - said[0] > SAY_EVERY:
            said[0] = time.monotonic()
            left = (said[0] - started) / done * (total - done)
            stores.event(campaign, stage, f"{part} {done} of {total} structures, {left:.0f} s left")

    failed: dict[str, str] = {}

    def problem(structure: MagneticStructure, error: Exception) -> None:
        failed[structure.hash()] = str(error)

    keys, known, made = _known(stores, committee, structures, settings, campaign, tell, problem)
    line = f"{part or 'structures'}: {len(structures)}, {len(structures) - made} of them found in the database"
    if failed:
        line += f"; {len(failed)} cannot be predicted, the first: {next(iter(failed.values()))}"
    stores.event(campaign, stage, line, ends_job=_title(stage, part, structures))
    return Chunk([key if key in known else None for key in keys], made, failed, time.monotonic() - started)


def _title(stage: str, part: str, structures: Sequence[MagneticStructure]) -> str:
    """Name of the job."""
    return f"{stage}: {part or f'{len(structures)} structures'}"


@dataclass
class AnisotropyPredictionMaker(Maker):
    """Job: anisotropy of a chunk of structures by stored models, into the store.

    The output names the prediction keys in the order of the structures, how many were made now, what could not be
    predicted (structure hash → why), and the seconds.
    """

    name: str = "predict anisotropy"
    stage: str = "predict"
    settings: PredictionSettings = field(default_factory=PredictionSettings)

    def make(
        self, structures: Sequence[MagneticStructure], models: Sequence[str], campaign: str, part: str = ""
    ) -> Job:
        """``models``: hashes of the members of a committee, or of one model; ``part`` names the chunk."""
        made: Job = self.run(list(structures), list(models), campaign, part)
        made.name = _title(self.stage, part, structures)
        return made

    @job
    def run(self, structures: list[Any], models: list[str], campaign: str, part: str = "") -> dict[str, Any]:
        """`predict_chunk`, on a worker."""
        from mmace_flows.execution.stores import open_stores

        chunk = [MagneticStructure.model_validate(one) for one in structures]
        found = predict_chunk(open_stores(), campaign, chunk, models, self.settings, self.stage, part)
        keys = [key for key in found.keys if key is not None]
        return {"prediction_keys": keys, "made": found.made, "failed": found.failed, "seconds": found.seconds}
