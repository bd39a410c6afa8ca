"""What every loader makes of a description: checked tasks, and where the bytes are that they read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from jcpeer.application.manifest import Dispatch, OnFailure, Placement, Takeover
from jcpeer.application.task import Task
from jcpeer.ids import Digest, TaskId


@frozen
class LoadedApplication:
    """An application that passed `graph.check_graph`, still on its client's machine.

    Every blob that a task reads and no task makes is in `data` or in `files`.
    """

    name: str
    tasks: tuple[Task, ...]
    on_failure: OnFailure = "finish"
    placement: Placement = "rdv"
    dispatch: Dispatch = "assign"
    replicas: int = 3
    takeover: Takeover = "default"
    inputs_stay: bool = False
    labels: Mapping[str, str] = field(factory=dict)
    results: tuple[TaskId, ...] = ()
    """The tasks whose outputs are wanted: those that nobody waits for, and those marked `keep`."""
    files: Mapping[Digest, Path] = field(factory=dict)
    data: Mapping[Digest, bytes] = field(factory=dict)
    recorded_makespan_s: float | None = None
    """How long a recorded run took when it was recorded, where this is one (WfFormat)."""
