"""From a scenario to a program: its options on the command line, the run in virtual time, the findings on stdout.

A scenario is a module with a document at its head (world, expectation, reading), a frozen class of `Options`, and an
async function that takes them and returns `Findings`:

    if __name__ == "__main__":
        main(__doc__, ContentionOptions, simulate)
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import attrs
import structlog
import trio
from attrs import field, frozen

from jcpeer.errors import GraphError
from jcpeer.net.memory import MemoryWorld
from simulations.report import Findings
from simulations.virtual_time import run_seeded

PROGRESS_S = 5.0
"""Of real time, between the lines that say how far a long run is."""


Number = TypeVar("Number", int, float)


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    positional: Callable[[str], Any] | None = None,
    at_least: float = 0,
    list_of: type[float] | None = None,
) -> Any:
    """A field of a scenario's options: a number, `at_least` so much; text, which may be a list of such numbers with
    commas between. A `positional` one takes one or more arguments, each read by that function."""
    about = {"help": help, "choices": choices, "positional": positional, "at_least": at_least, "list_of": list_of}
    return field(default=default, metadata=about)


def numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    """Those of an option that is a list."""
    return [kind(each) for each in text.split(",")]


@frozen
class Options:
    """What every scenario can be told."""

    seed: int = option(7, "the same seed gives the same run")

    def fault(self) -> str | None:
        """Why there is no such run, if these options contradict each other."""
        return None


Chosen = TypeVar("Chosen", bound=Options)
Simulate = Callable[[Chosen], Awaitable[Findings]]


def run(simulate: Simulate[Chosen], options: Chosen) -> Findings:
    """One run in virtual time, with a line on stderr now and then if it takes long."""

    async def watched() -> Findings:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_progress)
            findings = await simulate(options)
            nursery.cancel_scope.cancel()
        return findings

    with few_collections():
        return run_seeded(watched, seed=options.seed)


async def _tell_progress() -> NoReturn:
    """It always sleeps the same, told or not: what it prints must not change the run."""
    began_s = told_s = time.monotonic()
    while True:
        await trio.sleep(1.0)
        now_s = time.monotonic()
        if now_s - told_s >= PROGRESS_S:
            told_s = now_s
            print(f"… {trio.current_time():.0f} virtual s after {now_s - began_s:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def few_collections() -> Iterator[None]:
    """Within the block the collector of cycles seldom looks: a thousand nodes are millions of objects that stay."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def joint_digest(worlds: Iterable[MemoryWorld]) -> tuple[str, int]:
    """Digest and number of events of a run through several worlds; of one, its own."""
    traces = [each.trace for each in worlds]
    if len(traces) == 1:
        return traces[0].digest, traces[0].length
    joint = hashlib.sha256("".join(each.digest for each in traces).encode())
    return joint.hexdigest(), sum(each.length for each in traces)


def main(document: str | None, options_type: type[Chosen], simulate: Simulate[Chosen]) -> NoReturn:
    """The command line of a scenario. Exit status 1: a checker objects; 2: it cannot be run like this."""
    options, as_json = read_options(document or "", options_type, sys.argv[1:])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if not as_json:
        print(told(options), flush=True)
    began_s = time.monotonic()
    faults: list[str] = []
    try:
        findings = run(simulate, options)
    except* GraphError as group:  # of a file that was given
        faults = [str(each) for each in leaves(group)]
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        sys.exit(2)
    took_s = time.monotonic() - began_s
    print(findings.as_json(_plain(options)) if as_json else findings.as_text())
    print(f"took {took_s:.1f} s", file=sys.stderr)
    sys.exit(1 if findings.problems else 0)


def read_options(document: str, options_type: type[Chosen], arguments: Sequence[str]) -> tuple[Chosen, bool]:
    """The options, and whether one object is wanted on stdout."""
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    for each in attrs.fields(options_type):
        help = f"{each.metadata['help']} (default: {each.default})"
        if each.metadata["positional"]:
            parser.add_argument(
                each.name, nargs="+", type=each.metadata["positional"], help=each.metadata["help"], metavar="FILE"
            )
        elif isinstance(each.default, bool):
            parser.add_argument(_flag(each.name), action="store_true", help=each.metadata["help"])
        else:
            choices = each.metadata["choices"] or None
            read = _reader(type(each.default), each.metadata["list_of"], each.metadata["at_least"])
            parser.add_argument(_flag(each.name), type=read, default=each.default, help=help, choices=choices)
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    chosen = vars(parser.parse_args(arguments))
    as_json = chosen.pop("json")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()
    }
    options = options_type(**values)
    if fault := options.fault():
        parser.error(fault)
    return options, as_json


def _reader(kind: type, list_of: type[float] | None, at_least: float) -> Callable[[str], Any]:
    what = {int: "a whole number", float: "a number", str: "text"}[list_of or kind]

    def read(text: str) -> Any:
        try:
            read_as = numbers(text, list_of) if list_of else [kind(text)]
            if any(isinstance(each, int | float) and not at_least <= each < math.inf for each in read_as):
                raise ValueError
        except ValueError:
            several = ", or several with commas" if list_of else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}, {at_least:g} or more{several}") from None
        return text if list_of else read_as[0]

    return read


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """What went wrong, without the nurseries in which it did."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from leaves(each)
        else:
            yield each


def told(options: Options) -> str:
    """The options in one line, the seed first."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _plain(options).items())


def _plain(options: Options) -> dict[str, object]:
    values = attrs.asdict(options, recurse=False)
    return {name: " ".join(map(str, value)) if isinstance(value, tuple) else value for name, value in values.items()}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
