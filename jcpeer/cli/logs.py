"""What a node logs, and how: lines for people on stderr, or JSON for collectors. Other libraries are kept quiet."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

from jcpeer.cli.words import one_line, plain

Level = Literal["debug", "info", "warning"]


def set_up(level: Level, *, as_json: bool) -> None:
    """From now on every log line of this program goes to stderr, in one form."""
    processors = structlog.processors
    structlog.configure(
        processors=[
            processors.add_log_level,
            processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
            processors.format_exc_info,
            processors.JSONRenderer(ensure_ascii=False, default=str) if as_json else _for_people,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    _quiet_others(verbose=level == "debug")


def _for_people(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """ "12:03:44 warning: what happened (name: value, name: value)". What others wrote cannot steer the terminal."""
    said, level, at, trace = (event.pop(each, "") for each in ("event", "level", "timestamp", "exception"))
    mark = "" if level in ("info", "debug") else f"{level}: "
    more = ", ".join(f"{name.replace('_', ' ')}: {one_line(str(value), length=300)}" for name, value in event.items())
    line = f"{at} {mark}{plain(str(said))}" + (f" ({more})" if more else "")
    return f"{line}\n{plain(trace)}" if trace else line


def _quiet_others(*, verbose: bool) -> None:
    """libp2p and zeroconf log ordinary events, such as a peer that went away, as errors, some of it to the root."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Forwarding(logging.WARNING) if verbose else logging.NullHandler())
    logging.captureWarnings(not sys.warnoptions)


class _Forwarding(logging.Handler):
    """The lines of other libraries, marked as theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().debug(record.getMessage(), library=record.name, level_there=record.levelname.lower())
