"""What an attempt finds when it begins: its files, its variables, its GPUs, its time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from jcpeer.wire.messages import AttemptOrder, Failure
from jcpeer.work.execution import Content
from jcpeer.work.files import InputFile, stays_inside

_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


def bad_names(order: AttemptOrder) -> Failure | None:
    for name in (*(each.name for each in order.inputs), *order.outputs):
        if not name.startswith("@") and not stays_inside(name):
            return Failure("setup", f"{name!r} is not a path below the work directory", "give it a relative path")
    return None


def files_of(order: AttemptOrder, inputs: Mapping[str, Content]) -> list[InputFile]:
    """The inputs that lie in the work directory under their names."""
    return [InputFile(each.name, inputs[each.name], each.executable) for each in order.inputs if each.name[0] != "@"]


def environment() -> dict[str, str]:
    return {"LANG": "C.UTF-8", **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}}


def task_variables(order: AttemptOrder) -> dict[str, str]:
    return {"JCPEER_TASK": order.task, "JCPEER_ATTEMPT": str(order.number), "JCPEER_CPUS": str(order.needs.cpus)}


def visible(gpus: Sequence[str]) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def seconds_of(timeout_s: float | None) -> float:
    return math.inf if timeout_s is None else timeout_s
