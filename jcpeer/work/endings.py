"""What became of an attempt's process, in words for a person."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from jcpeer.application.task import INLINE_BYTES_MAX
from jcpeer.wire.messages import AttemptOrder, Failure
from jcpeer.work.execution import Content, Execution
from jcpeer.work.spawning import Ended, spawn_error_line


def printed(path: Path) -> Content:
    try:
        size = path.stat().st_size
        return path if size > INLINE_BYTES_MAX else path.read_bytes()
    except OSError:
        return b""  # the process was never executed


def not_run(failure: Failure) -> Execution:
    return Execution(failure, None, time.time(), 0.0)


def missing(lines: Sequence[str]) -> Failure | None:
    if not lines:
        return None
    return Failure("missing_output", "; ".join(lines), "have the task make each output that it declares")


def timed_out(order: AttemptOrder) -> Failure:
    return Failure("timeout", f"ran longer than {order.timeout_s:g} s", "give the task a longer timeout")


def _lost() -> Failure:
    return Failure("killed", "the process that watches over this node's attempts died, and this one with it")


def command_failure(ended: Ended, program: str, work: Path) -> Failure | None:
    if ended.lost:
        return _lost()
    if ended.status is None:
        return _not_executed(ended, program, work)
    if ended.status < 0:
        return Failure("exit", f"killed by {_signal_name(-ended.status)}", _memory_remedy(ended.status))
    return Failure("exit", f"exit status {ended.status}") if ended.status else None


def _not_executed(ended: Ended, program: str, work: Path) -> Failure:
    text = f"cannot run {ended.path!r}: {spawn_error_line(ended)}"
    if ended.errno == errno.ENOENT and "/" not in program and (work / program).exists():
        return Failure("setup", text, f"call it as ./{program}: the work directory is not on the PATH")
    if ended.errno == errno.ENOENT:
        return Failure("setup", text, "install it on that node, or declare it as an input and call it as ./NAME")
    if ended.errno == errno.EACCES:
        return Failure("setup", text, "declare the program as an executable input")
    if ended.errno == errno.ENOEXEC:
        return Failure("setup", text, "a script begins with #! and its interpreter, a program is for one processor")
    return Failure("setup", text)


def crash(ended: Ended) -> Failure:
    """Of a worker that ended in the midst of a call."""
    if ended.lost:
        return _lost()
    if ended.status is None:
        return Failure("setup", f"no Python worker: cannot run {ended.path!r}: {spawn_error_line(ended)}")
    if ended.status < 0:
        text = f"the call's process was killed by {_signal_name(-ended.status)}"
        return Failure("killed", text, _memory_remedy(ended.status))
    return Failure("exit", f"the call ended its process with exit status {ended.status}", "return from the function")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory_remedy(status: int) -> str:
    return "if memory ran out: ask for more with `memory`" if status == -signal.SIGKILL else ""
