"""Labels of the store as configurations: what stands behind `--data store:CAMPAIGN`."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError, unknown_key_message
from mmace_flows.execution.outputs import LABELS, keys_in_outputs
from mmace_flows.learning.dataset import DataSetSettings, label_configuration, reason_to_set_aside
from mmace_flows.schemas.label import LabelDocument

if TYPE_CHECKING:
    from mmace.train import Configuration

logger = logging.getLogger("mmace")

PREFIX = "store:"
PARTS = {"train": "training_keys", "test": "test_keys", "bain": "bain_keys"}  # part → field of the loop's last state


def is_store(source: str) -> bool:
    """Whether ``source`` names labels of the store and not a file."""
    return source.startswith(PREFIX)


def store_configurations(
    source: str,
    stores: Any = None,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Callable[[UserError], None] | None = None,
) -> Iterator[Configuration]:
    """The converged labels of a campaign, one at a time.

    Parameters: ``source`` is "store:CAMPAIGN", all of them but the Bain path, which is never trained on, or
    "store:CAMPAIGN/train", "/test", "/bain", the ones that the last iteration of active learning trained on, held out,
    or compared with; ``stores`` as `open_stores` gives them; ``progress(done, all)`` in labels; ``on_problem`` is told
    of labels that are set aside, which are otherwise counted in one warning.
    Raises `UserError` for a campaign without labels or without such a part.
    """
    if stores is None:
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
    campaign, _, part = source.removeprefix(PREFIX).partition("/")
    criteria = _criteria(stores, campaign, part, source)
    total, settings = stores.labels.count(criteria), DataSetSettings()
    if not total:
        raise UserError(_unknown_campaign(stores, campaign, source))
    fields = list(LabelDocument.model_fields)
    set_aside: list[str] = []
    used = 0
    for number, document in enumerate(stores.labels.query(criteria, sort={"label_key": 1}), 1):
        label = LabelDocument(**{name: document[name] for name in fields if name in document})
        reason = reason_to_set_aside(label, settings)
        if progress is not None:
            progress(number, total)
        if reason is not None:
            set_aside.append(f"{source}: label {label.label_key}: {reason}")
            if on_problem is not None:
                on_problem(UserError(set_aside[-1]))
            continue
        used += 1
        configuration = label_configuration(label)
        configuration.name = f"{source}: label {label.label_key}"
        configuration.info = _info(label)
        yield configuration
    if set_aside and on_problem is None:
        logger.warning("%d of %d labels are set aside; the first: %s", len(set_aside), total, set_aside[0])
    if not used and on_problem is None:
        raise UserError(f"{source}: no label can be trained on; the first of {total}: {set_aside[0]}")


def _criteria(stores: Any, campaign: str, part: str, source: str) -> dict[str, Any]:
    if not campaign:
        raise UserError(f"{source}: which campaign? write {PREFIX}CAMPAIGN; `mmace status` lists them")
    if part and part not in PARTS:
        raise UserError(unknown_key_message(part, PARTS, source).replace("unknown setting", "unknown part"))
    states = list(stores.loop_states.query({"campaign": campaign}, sort={"iteration": -1}, limit=1))
    if part:
        if not states:
            raise UserError(
                f"{source}: '{campaign}' has no iteration of active learning to take '{part}' from; "
                f"{PREFIX}{campaign} gives all its labels"
            )
        return {"label_key": {"$in": list(states[0].get(PARTS[part], []))}}
    keys = keys_in_outputs(stores, campaign, LABELS)
    keys += [key for name in ("training_keys", "test_keys") for key in (states[0].get(name, []) if states else [])]
    return {
        "$and": [
            {"$or": [{"campaign": campaign}, {"label_key": {"$in": keys}}]},
            {"candidate.group": {"$ne": "bain"}},
        ]
    }


def _unknown_campaign(stores: Any, campaign: str, source: str) -> str:
    known = sorted(str(name) for name in stores.labels.distinct("campaign") if name)
    near = difflib.get_close_matches(campaign, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"campaigns with labels: {', '.join(known) or 'none'}"
    return f"{source}: no labels of '{campaign}' in the store; {hint}"


def _info(label: LabelDocument) -> dict[str, Any]:
    """Where the label comes from, for splits and files."""
    candidate = label.candidate
    info = {
        "label_key": label.label_key,
        "campaign": label.campaign,
        "group": candidate.group,
        "operation": candidate.operation,
        "parent": candidate.parent,
        "iteration": candidate.iteration,
        "engine": label.engine,
    }
    return {key: value for key, value in info.items() if value is not None}
