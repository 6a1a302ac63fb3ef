"""A JobStore of the user's own for outputs of jobs, from a YAML file in jobflow's short form."""

from __future__ import annotations

from pathlib import Path

from jobflow import JobStore
from pymongo.errors import PyMongoError

from mmace.errors import UserError, unknown_key_message
from mmace_flows.execution import project_stores  # noqa: F401  jobflow finds stores among the classes that exist
from mmace_flows.execution.settings import read_yaml

KEYS = ("docs_store", "additional_stores")


def load_job_store(path: Path) -> JobStore:
    """The store that a file like db_config/job_store_s3.yaml describes, connected. Raises UserError."""
    values = read_yaml(path)
    for key in values:
        if key not in KEYS:
            raise UserError(unknown_key_message(str(key), KEYS, str(path)))
    try:
        store = JobStore.from_dict_spec(values)
        store.connect()
    except PyMongoError:
        raise  # gone for now: whoever can wait, waits
    except Exception as error:  # maggma's stores raise what their libraries raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a store that can be used ({type(error).__name__}: {reason})") from error
    return store
