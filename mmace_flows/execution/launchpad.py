"""FireWorks' LaunchPad, hardened: ends of jobs are never lost, hostile documents are set aside, clocks may differ."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fireworks import Firework, FWAction, LaunchPad
from fireworks.core.launchpad import LockedWorkflowError
from pymongo.errors import PyMongoError

from mmace_flows.execution import backoff
from mmace_flows.execution.policy import RulesOfCampaigns
from mmace_flows.execution.quick_refresh import JobGone, locked, refresh_quickly
from mmace_flows.execution.safe_loading import RefusedDocument, check_spec, quarantine

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

FULL_TRIES = 3  # a job that fills the disk this often in one worker fails


class ProjectLaunchPad(LaunchPad):
    """The queue of one set of stores."""

    stores: Stores

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._refreshing = True
        self._full: Counter[int] = Counter()  # by launch's firework
        self._rules = RulesOfCampaigns()

    def checkout_fw(self, *arguments: Any, **keywords: Any) -> Any:
        """Take a job, with the rules for jobs that it may make."""
        firework, launch_id = super().checkout_fw(*arguments, **keywords)
        if firework is not None:
            self._rules.learn(self.stores, firework.spec.get("campaign", ""))
        return firework, launch_id

    def complete_launch(self, launch_id: int, action: FWAction | None = None, state: str = "COMPLETED") -> Any:
        """Note a job's end. In a patient process it waits for the server, with the end kept on disk.

        A job that failed only because the database was gone, or this machine's disk full, goes back into the queue.
        """
        if action is not None:
            self._rules.assign(action)
        patience = backoff.patience()
        if patience is None:
            return super().complete_launch(launch_id, action, state)
        # Rocket calls this while it handles what the job raised
        fault = sys.exc_info()[1] if state == "FIZZLED" else None
        if backoff.unreachable(fault):
            patience.wait(fault)  # type: ignore[arg-type]
            return backoff.reading(lambda: self._put_back(launch_id))
        if backoff.disk_full(fault) and self._may_try_again(launch_id):
            backoff.reading(lambda: self._put_back(launch_id))  # a worker elsewhere may have more room
            return backoff.wait_for_room(patience)
        missed: Exception | None = None
        if not patience.away():  # what the job has written must be stored before the job counts as done
            try:
                return super().complete_launch(launch_id, action, state)
            except Exception as error:
                if not backoff.unreachable(error):
                    raise
                missed = error
        entry = {"kind": "end of job", "launch_id": launch_id, "state": state}
        while not patience.keep(entry | {"action": action.to_dict() if action else None}):
            patience.wait(missed)
        patience.wait(missed)
        return None

    def write_end(self, launch_id: int, action: dict[str, Any] | None, state: str) -> None:
        """Write a job's end into its launch, leaving the workflow to `recovery.recover`."""
        self._refreshing = False
        try:
            super().complete_launch(launch_id, _Verbatim(action) if action else None, state)
        finally:
            self._refreshing = True

    def ping_launch(self, launch_id: int, ptime: datetime | None = None, checkpoint: Any = None) -> None:
        """Say that a launch lives, by the server's clock; a sign that does not get through is not missed."""
        try:
            super().ping_launch(launch_id, ptime or self.stores.now(), checkpoint)
        except PyMongoError as error:
            if not backoff.unreachable(error):
                raise

    def get_fw_by_id(self, fw_id: int) -> Firework:
        """A job. One that asks for what no job may have is set aside, and a job that fails stands for it."""
        try:
            document = self.get_fw_dict_by_id(fw_id)
            check_spec(document["spec"])
            return Firework.from_dict(document)
        except RefusedDocument as refusal:
            quarantine(self, fw_id, refusal)
            return super().get_fw_by_id(fw_id)

    def _refresh_wf(self, fw_id: int) -> None:
        """Bring a workflow up to date after one of its jobs changed.

        Differs from FireWorks in that a server that is gone, or code that is not importable here, does not make the job
        a failed one, and that hostile documents of its children are set aside. Raises RuntimeError, JobGone.
        """
        if not self._refreshing:
            return
        try:
            try:
                self._refresh(fw_id)
            except RefusedDocument:
                workflow = self.workflows.find_one({"nodes": fw_id}, {f"links.{fw_id}": 1}) or {"links": {}}
                for node in [fw_id, *workflow["links"].get(str(fw_id), [])]:
                    with contextlib.suppress(ImportError, AttributeError):  # not hostile, only not here
                        self.get_fw_by_id(node)  # sets those aside that are to be refused
                self._refresh(fw_id)
        except JobGone:
            self.launches.delete_many({"fw_id": fw_id})
            raise
        except LockedWorkflowError:
            self.m_logger.warning(f"the workflow of job {fw_id} stays locked; `mmace resume` mends that")
        except Exception as error:
            if backoff.unreachable(error) or isinstance(error, ImportError):
                raise
            states = {"$set": {"state": "FIZZLED", f"fw_states.{fw_id}": "FIZZLED"}}
            self.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED"}})
            self.workflows.update_one({"nodes": fw_id}, states)
            raise RuntimeError(f"job {fw_id}: its workflow cannot be updated: {error}") from error

    def _refresh(self, fw_id: int) -> None:
        with locked(self, fw_id):
            if refresh_quickly(self, fw_id):
                return
            workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
            self._update_wf(workflow, workflow.refresh(fw_id))

    def _put_back(self, launch_id: int) -> None:
        from mmace_flows.execution.recovery import recover

        launch = self.launches.find_one({"launch_id": launch_id}, {"fw_id": 1}) or {}
        firework = self.fireworks.find_one({"fw_id": launch.get("fw_id")}, {"spec.campaign": 1})
        if firework is not None:
            recover(self.stores, firework["spec"]["campaign"], others_live=True)

    def _may_try_again(self, launch_id: int) -> bool:
        """Whether a job that met a full disk goes back into the queue: not if it filled it again and again."""
        launch = backoff.reading(lambda: self.launches.find_one({"launch_id": launch_id}, {"fw_id": 1}))
        number = launch["fw_id"] if launch else -1
        self._full[number] += 1
        return self._full[number] < FULL_TRIES


class _Verbatim(FWAction):
    """A response as it was written, without making objects of it."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document

    def to_dict(self) -> dict[str, Any]:
        return self.document
