"""Values of Python tasks, as far as they can be shown."""

from __future__ import annotations

from collections.abc import Mapping

from jcpeer.application.task import VALUE
from jcpeer.cli.words import one_line
from jcpeer.client.blocking import run_blocking
from jcpeer.client.session import Session
from jcpeer.errors import RequestError
from jcpeer.wire.requests import Results

SHOWN_MAX = 20
SHOWN_BYTES_MAX = 16 * 2**20
"""A value above this is not fetched only to be shown."""
REPR_CHARACTERS_MAX = 10_000


def values_of(session: Session, app: str, task: str | None = None) -> dict[str, str]:
    """What the last tasks, or this one, returned, as Python writes it, by task; None is nothing to show."""
    return shown_values(session, run_blocking(session.results(app, task)))


def shown_values(session: Session, results: Results) -> dict[str, str]:
    """The values among these results."""
    found = [(each.task, output) for each in results.results for output in each.outputs if output.name == VALUE]
    shown: dict[str, str] = {}
    for task, output in found[:SHOWN_MAX]:
        if output.blob.size > SHOWN_BYTES_MAX:
            shown[task] = f"<{output.blob.size:,} bytes>"
            continue
        try:
            value = run_blocking(session.read_value(results.app, task, output))
            if value is not None:
                shown[task] = repr(value)[:REPR_CHARACTERS_MAX]
        except RequestError as error:
            shown[task] = f"<{error}>"
        except Exception as error:  # a repr is code of the user's
            shown[task] = f"<its repr fails: {type(error).__name__}: {error}>"
    return shown


def value_lines(values: Mapping[str, str]) -> list[str]:
    """One line each."""
    return [f"{one_line(task, length=60)}: {one_line(value)}" for task, value in values.items()]
