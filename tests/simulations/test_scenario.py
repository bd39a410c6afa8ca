"""What every scenario has in common: options on the command line, a table for people, one object for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from attrs import frozen

from jcpeer.net.memory import MemoryWorld
from simulations import checkers, faults, grid, report, scenario, workloads
from simulations.report import Findings, Table, quantile, shown
from simulations.scenario import Options, joint_digest, main, option, read_options, run, told
from simulations.trace import TraceOptions
from simulations.trace import simulate as replay_all

DEVELOP = Path(__file__).parents[2] / "docs" / "develop.md"


@frozen
class LittleOptions(Options):
    files: tuple[Path, ...] = option((), "what to read", positional=Path)
    nodes: int = option(3, "how many")
    rate: float = option(1.5, "how fast")
    kind: str = option("plain", "which", choices=("plain", "fancy"))
    sizes: str = option("1,2", "how large", at_least=1, list_of=int)


async def simulate(options: LittleOptions) -> Findings:
    await trio.sleep(options.nodes)
    table = Table("little", ("name", "seconds"), (("a", trio.current_time()), ("long one", None)))
    return Findings("d1" * 32, 2, (table,), ("a line",), ["it broke"] if options.kind == "fancy" else [])


def test_options_come_from_their_class_and_are_told_with_the_seed_first() -> None:
    options, as_json = read_options(
        "", LittleOptions, ["a.json", "b.json", "--nodes", "9", "--kind", "fancy", "--json"]
    )
    assert options == LittleOptions(7, (Path("a.json"), Path("b.json")), 9, 1.5, "fancy")
    assert as_json
    assert told(options) == "seed 7, files a.json b.json, nodes 9, rate 1.5, kind fancy, sizes 1,2"


def test_the_scenario_of_the_documents_runs() -> None:
    (text,) = re.findall(r"^```python scenario\n(.*?)^```$", DEVELOP.read_text(), re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {"frozen": frozen, "MemoryWorld": MemoryWorld}
    for module in (grid, faults, checkers, scenario, workloads, report):
        scope |= vars(module)
    scope["__name__"] = "document"
    exec(text, scope)
    findings = run(scope["simulate"], scope["CrashOptions"]())
    assert findings.problems == []
    assert findings.table("application")[0]["state"] == "ok"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--kind", "strange"],
        ["--nodes", "many"],
        ["--nodes", "-1"],
        ["--rate", "nan"],
        ["--sizes", "3,0"],
        ["--sizes", "3;4"],
        ["--unknown", "1"],
        [],
    ],
)
def test_impossible_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["a.json", *wrong] if wrong else []
    with pytest.raises(SystemExit):
        read_options("", LittleOptions, arguments)
    assert "error:" in capsys.readouterr().err


def test_a_file_that_is_no_recorded_run_is_named_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["trace.py", str(tmp_path / "nope.json")])
    try:
        with pytest.raises(SystemExit) as ended:
            main(None, TraceOptions, replay_all)
    finally:
        structlog.reset_defaults()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{tmp_path}/nope.json: it cannot be read: No such file or directory; correct the path"


def test_findings_are_a_table_for_people_and_an_object_for_programs() -> None:
    findings = run(simulate, LittleOptions(nodes=2, kind="fancy"))
    assert findings.as_text().splitlines() == [
        "little:",
        "  name      seconds",
        "  a               2",
        "  long one        -",
        "a line",
        "PROBLEM: it broke",
        "digest d1d1d1d1d1d1d1d1 over 2 events",
    ]
    told = json.loads(findings.as_json({"seed": 7}))
    assert told["tables"]["little"][0] == {"name": "a", "seconds": 2.0}
    assert (told["options"], told["problems"], told["digest"]) == ({"seed": 7}, ["it broke"], "d1" * 32)


def test_numbers_are_shown_with_three_digits_that_count() -> None:
    assert [shown(each) for each in (0.01234, 3.14159, 99.9, 512.3, 12345.6, 1234567, "x")] == [
        *("0.0123", "3.14", "99.9", "512", "12,346", "1,234,567", "x")
    ]
    assert [quantile([3.0, 1.0, 2.0], part) for part in (0.0, 0.5, 1.0)] == [1.0, 2.0, 3.0]
    assert quantile([], 0.5) == 0.0


def test_the_digest_of_several_worlds_depends_on_each() -> None:
    worlds = [MemoryWorld(seed) for seed in (1, 2)]
    assert joint_digest(worlds[:1]) == (worlds[0].trace.digest, 0)
    before = joint_digest(worlds)
    worlds[1].trace.add(1.0, "something happened")
    assert joint_digest(worlds)[0] != before[0]
    assert joint_digest(worlds)[1] == 1
