"""A job that replaces itself by a flow hands the flow's output on as its own."""

from __future__ import annotations

from jobflow import CURRENT_JOB, Flow, Job
from jobflow.core.job import store_inputs


def hand_on(rest: Flow, name: str) -> Job:
    """The job, called ``name``, that puts the output of ``rest`` in the place of the running job's output.

    jobflow makes the same one for a replacement that has an output, but names it outside every stage.
    """
    running = CURRENT_JOB.job
    result = store_inputs(rest.output)
    result.set_uuid(running.uuid)
    result.index = running.index + 1
    result.metadata = running.metadata
    result.name = name
    return result
