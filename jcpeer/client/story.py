"""What is told of an application that did not end well, and the exception that a task raised, as far as its traceback
shows it: a worker's exception travels as text only, since nobody but a worker unpickles what a worker made."""

from __future__ import annotations

import ast
import builtins
import sys

from jcpeer.errors import ApplicationFailedError, JcpeerError
from jcpeer.wire.requests import Status

TRACEBACK = "Traceback (most recent call last):"


class RemoteError(JcpeerError):
    """A task's own exception, raised on another machine; the text is its traceback there."""


def failed_application(status: Status, text: str = "", task: str = "") -> ApplicationFailedError:
    """The error for an application that ended "failed" or "cancelled".

    Args:
        text: What the first task that failed for good left behind: a line, or a traceback.
        task: Its id.
    """
    summary = status.summary
    headline = f"application {summary.name} ({summary.app[:8]}) {_verb(summary.state)}"
    if task:
        headline += f": task {task}"
    if text:
        headline += f": {last_line(text)}"
    if TRACEBACK in text:
        headline += f"\n\n{text.rstrip()}"
    return ApplicationFailedError(headline, story=status.failures)


def failed_task(task: str, text: str) -> Exception:
    """The exception of a task that failed for good: as it was raised there, where its traceback names a type known
    here, with the traceback as its cause."""
    if TRACEBACK not in text:
        return ApplicationFailedError(f"task {task} failed: {text}", story=(text,))
    cause = RemoteError(f"in task {task}\n\n{text.rstrip()}")
    error = _as_raised(text)
    if error is None:
        return cause
    error.__cause__ = cause
    return error


def last_line(text: str) -> str:
    """Of a traceback the line that names the exception, of anything else its last."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _verb(state: str) -> str:
    return "was cancelled" if state == "cancelled" else "failed"


def _as_raised(text: str) -> Exception | None:
    lines = text[text.rindex(TRACEBACK) + len(TRACEBACK) :].strip("\n").splitlines()
    while lines and lines[0].startswith(" "):  # frames; the exception follows at the margin
        lines.pop(0)
    kind_name, _, message = "\n".join(lines).partition(": ")
    kind = _known_type(kind_name.strip())
    if kind is None:
        return None
    try:
        return kind(*([] if not message else [_key(message) if issubclass(kind, KeyError) else message]))
    except Exception:  # its constructor wants other arguments than its message
        return None


def _key(message: str) -> object:
    # A KeyError prints the repr of its key.
    try:
        return ast.literal_eval(message)
    except (ValueError, SyntaxError):
        return message


def _known_type(name: str) -> type[Exception] | None:
    """The exception type of this name, among what this process has imported already; nothing is imported for it."""
    module_name, _, type_name = name.rpartition(".")
    modules = [sys.modules.get(module_name)] if module_name else [builtins, sys.modules.get("__main__")]
    for module in modules:
        kind = getattr(module, type_name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            return kind
    return None
