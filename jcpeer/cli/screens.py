"""What is shown of an application while it runs: a live picture, lines now and then, or events as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from jcpeer.cli import as_json as data
from jcpeer.cli.terminal import say, show_json
from jcpeer.cli.words import counted, duration, joined, one_line, plain, rate, size
from jcpeer.client.session import Upload
from jcpeer.wire.requests import Happened, Progress

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

PLAIN_EVERY_S = 5.0
BAR_CHARACTERS_MAX = 50

DONE = ("finished", "failed", "cancelled", "skipped")
"""States of tasks that nothing changes any more, as a rule."""


class Screen(Protocol):
    """One person's (or program's) view. `note` is for what does not fit the others."""

    def note(self, text: str) -> None: ...
    def upload(self, upload: Upload) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def event(self, event: Happened) -> None: ...


@contextmanager
def screen_for(name: str, *, as_json: bool) -> Iterator[Screen]:
    """The screen that suits where stderr leads. Leaving the block ends the live picture."""
    if as_json:
        yield JsonScreen()
    elif sys.stderr.isatty():
        with live_screen(name) as live:
            yield live
    else:
        yield PlainScreen(name)


class JsonScreen:
    """Each committed event as a line on stdout."""

    def note(self, text: str) -> None:
        say(text)

    def upload(self, upload: Upload) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass

    def event(self, event: Happened) -> None:
        show_json(data.of_event(event))


class PlainScreen:
    """A line every few seconds, and one for each thing that went wrong."""

    def __init__(self, name: str) -> None:
        self._name = one_line(name, length=40)
        self._told_s = time.monotonic()

    def note(self, text: str) -> None:
        say(text)

    def upload(self, upload: Upload) -> None:
        if self._is_time():
            say(f"{self._name}: {upload_text(upload)}")

    def progress(self, progress: Progress) -> None:
        if self._is_time():
            say(f"{self._name}: {progress_text(progress)}")

    def event(self, event: Happened) -> None:
        if (text := trouble(event)) is not None:
            say(text)

    def _is_time(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._told_s < PLAIN_EVERY_S:
            return False
        self._told_s = now_s
        return True


@contextmanager
def live_screen(name: str) -> Iterator[LiveScreen]:
    """A picture that changes in place, below the lines that stay."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveScreen(name, console, live)


class LiveScreen:
    """A bar, and below it what runs and where."""

    def __init__(self, name: str, console: Console, live: Live) -> None:
        self._name = one_line(name, length=40)
        self._console = console
        self._live = live
        self._since_s = time.monotonic()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def upload(self, upload: Upload) -> None:
        sent, all_ = (
            (upload.bytes_sent, upload.bytes_all) if upload.bytes_all else (upload.tasks_sent, upload.tasks_all)
        )
        self._draw(sent / all_ if all_ else 0.0, "", [upload_text(upload)])

    def progress(self, progress: Progress) -> None:
        counts = Counts.of(progress.tasks)
        self._draw(counts.share, f"{counts.done:,}/{counts.all:,} tasks", progress_lines(progress, counts))

    def event(self, event: Happened) -> None:
        if (text := trouble(event)) is not None:
            self.note(text)

    def _draw(self, share: float, beside: str, below: list[str]) -> None:
        from rich.console import Group

        elapsed = duration(time.monotonic() - self._since_s, fractions=False)
        right = "  ".join(["", f"{share:4.0%}", *([beside] if beside else []), elapsed])
        room = self._console.width - len(self._name) - 2 - len(right)
        head = f"{self._name}  {bar(share, min(BAR_CHARACTERS_MAX, room))}{right}"
        self._live.update(_lines(Group, [head, *(f"  {each}" for each in below)]), refresh=True)


def _lines(group: type[Group], lines: list[str]) -> Group:
    from rich.text import Text

    return group(*(Text(each, no_wrap=True, overflow="ellipsis") for each in lines))


def bar(share: float, characters: int) -> str:
    """A bar of this length, filled as far as the share says; nothing where there is no room for one."""
    if characters < 5:
        return ""
    filled = int(share * characters)
    return "━" * filled + "─" * (characters - filled)


@frozen
class Counts:
    """Tasks by state, as a person counts them."""

    all: int
    done: int
    by_state: Mapping[str, int]

    @classmethod
    def of(cls, tasks: Mapping[str, int]) -> Counts:
        return cls(sum(tasks.values()), sum(tasks.get(each, 0) for each in DONE), tasks)

    @property
    def share(self) -> float:
        return self.done / self.all if self.all else 0.0


_SHOWN = (
    ("running", "running"),
    ("assigned", "assigned"),
    ("ready", "ready"),
    ("waiting", "waiting"),
    ("failed", "failed"),
    ("skipped", "skipped"),
    ("cancelled", "cancelled"),
)


def states_text(tasks: Mapping[str, int]) -> str:
    """ "4 running, 12 ready, 1 failed": all but the finished."""
    return ", ".join(f"{tasks[state]:,} {word}" for state, word in _SHOWN if tasks.get(state))


def progress_text(progress: Progress) -> str:
    """How it stands, in one line."""
    counts = Counts.of(progress.tasks)
    done = f"{counts.done:,} of {counted(counts.all, 'task')} done"
    parts = [done, states_text(progress.tasks), stalled_text(progress) or _pace(progress)]
    return "; ".join(each for each in parts if each)


def progress_lines(progress: Progress, counts: Counts) -> list[str]:
    """How it stands, below the bar."""
    busy = sorted(((name, count) for name, count in progress.running.items() if count), key=lambda each: -each[1])
    where = joined([f"{plain(name)} {count}" for name, count in busy]) if busy else ""
    pace = stalled_text(progress) or _pace(progress)
    lines = ["; ".join(each for each in (states_text(progress.tasks), pace) if each)]
    if where:
        lines.append(f"on {counted(len(busy), 'node')}: {where}")
    return [each for each in lines if each]


def stalled_text(progress: Progress) -> str:
    """ "stalled, waits for shed and desk"; empty where it goes on."""
    missing = joined([plain(each.name) for each in progress.missing])
    return f"stalled, waits for {missing}" if missing else ""


def _pace(progress: Progress) -> str:
    if progress.rate <= 0:
        return ""
    left = f", about {duration(max(1.0, progress.left_s), fractions=False)} left" if progress.left_s else ""
    return f"{rate(progress.rate)}{left}"


def upload_text(upload: Upload) -> str:
    """How far a submission is."""
    if upload.bytes_all and upload.bytes_sent < upload.bytes_all:
        return f"sending inputs, {size(upload.bytes_sent)} of {size(upload.bytes_all)}"
    return f"sending tasks, {upload.tasks_sent:,} of {upload.tasks_all:,}"


def trouble(event: Happened) -> str | None:
    """A line about an event that a person wants to see as it happens; None for what goes its way."""
    where = f" on {plain(event.node.name)}" if event.node else ""
    attempt = f"attempt {event.attempt}{where}"
    text = one_line(event.text.strip().rpartition("\n")[2])
    match event.kind:
        case "failed" | "lost":
            what = "failed" if event.kind == "failed" else "was lost"
            after = f" after {duration(event.ran_s)}" if event.kind == "failed" else ""
            then = "no attempt is left" if event.final else "it runs again"
            return f"{event.task}: {attempt} {what}{after}: {text}; {then}"
        case "output_lost":
            return f"{event.task}: its output is lost ({text})" + ("" if event.final else "; it runs again")
        case "took_over" | "reconciled":
            return text
        case "cancelled" if event.task is not None:
            return f"{event.task}: cancelled"
    return None
