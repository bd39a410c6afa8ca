"""The applications in examples/ load, and compute what they say."""

from __future__ import annotations

import json
import runpy
import shutil
import sysconfig
from pathlib import Path

import pytest

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load
from jcpeer.application.task import INLINE_BYTES_MAX, VALUE
from jcpeer.ids import TaskId
from tests.application.here import Outputs, run_here

EXAMPLES = Path(__file__).parents[2] / "examples"
count_names = runpy.run_path(str(EXAMPLES / "corpus" / "plain.py"))["count_names"]
STDLIB = Path(sysconfig.get_path("stdlib"))


def test_the_corpus_is_about_sixty_tasks_that_merge_into_one() -> None:
    loaded = load(EXAMPLES / "corpus.toml")
    assert len(loaded.tasks) == 59
    assert loaded.results == ("all",)
    assert len(loaded.tasks[-1].parents()) == 10


def answers_agree(loaded: LoadedApplication, outputs: Outputs, source: Path) -> None:
    uses = count_names(source)
    index = json.loads(outputs[TaskId("all"), "index.json"])
    assert {name: sum(map(len, places.values())) for name, places in index.items()} == uses
    top = outputs[TaskId("all"), "top20.txt"].decode().split()
    ranked = sorted(uses, key=lambda name: (-uses[name], name))
    assert top == [word for name in ranked[:20] for word in (str(uses[name]), name)]


@pytest.mark.real
def test_the_index_of_a_part_of_the_standard_library_agrees_with_a_plain_count(tmp_path: Path) -> None:
    """With files that are no Python of today: lib2to3 is tried on them, `test` on those that no parser takes."""
    source = tmp_path / "source"
    for package in ("asyncio", "email", "idlelib", "json", "lib2to3"):
        shutil.copytree(STDLIB / package, source / package)
    for file in (STDLIB / "test").rglob("bad*.py"):
        shutil.copy(file, source)
    (source / "not_python.py").write_text("def (:\n  '''")
    loaded = load(EXAMPLES / "corpus.toml", variables={"source": str(source), "shards": "10"})
    (tmp_path / "run").mkdir()
    outputs = run_here(loaded, tmp_path / "run")
    assert all(len(data) > INLINE_BYTES_MAX for (_, name), data in outputs.items() if name.endswith(".json"))
    answers_agree(loaded, outputs, source)


@pytest.mark.real
def test_the_other_examples_compute_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "darts").mkdir()
    (tmp_path / "primes").mkdir()
    darts = run_here(load(EXAMPLES / "matrix.toml", variables={"seeds": "2"}), tmp_path / "darts")
    assert len(darts[TaskId("table"), "table.txt"].splitlines()) == 6
    primes = run_here(load(EXAMPLES / "functions.py"), tmp_path / "primes")
    assert primes[TaskId("total"), VALUE] == 148_933
