"""The takeover protocol as a Spin model: it holds, in a search that ends, and without one of its rules it does not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from attrs import frozen

MODEL = Path(__file__).parents[2] / "spec" / "takeover.pml"
MISSING = [each for each in ("spin", "gcc") if shutil.which(each) is None]

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)}: the takeover model is not checked"),
]

SEARCH_S = 60.0
"""Longer than this none of them may take, since all are part of `make test`."""
MEMORY_MIB = 2000
STEPS = 10_000
"""More than any history of the model has, all of which end."""

THREE_TAKEOVERS = ("ROUNDS=3", "LENGTH=4")
FOUR_TAKEOVERS = ("ROUNDS=4", "LENGTH=5", "LOST_ACKS=0")
TWO_FACTS_EACH = ("ROUNDS=3", "FACTS=2", "LENGTH=5", "LOST_ACKS=0")
TWO_REBOOTS = ("ROUNDS=2", "LENGTH=4", "REBOOTS=2")
ONE_IN_ONE_OUT = ("NODES=4", "ROUNDS=2", "LENGTH=5", "CHANGES=2", "LOST_ACKS=0")
TWO_BECOME_THREE = ("GROWS", "ROUNDS=3", "LENGTH=5", "CHANGES=2")

TAKEOVERS = (*THREE_TAKEOVERS, "LATECOMERS=1")
"""Where faults are looked for: in the two assertions that matter most."""
REPLACEMENTS = (*ONE_IN_ONE_OUT, "LATECOMERS=1")
FOUR_SEATS = ("NODES=4", "FIRST_SET=15", "ROUNDS=2", "LENGTH=4", "CHANGES=2", "LOST_ACKS=0", "LATECOMERS=1")


@frozen
class Search:
    """What the checker that Spin makes of the model says at its end."""

    text: str

    @property
    def errors(self) -> int:
        return int(self._only(r"errors: (\d+)"))

    @property
    def states(self) -> int:
        return int(self._only(r"(\d+) states, stored"))

    @property
    def violated(self) -> str:
        """The assertion that was found wrong."""
        return self._only(r"assertion violated (.*) \(at depth \d+\)")

    def check_complete(self) -> None:
        """Neither ended early nor cut off, be it by depth, memory or a hash that stands for a state."""
        for each in ("not completed", "too small", "out of memory", "MEMLIM", "bit statespace", "Warning", "aborted"):
            assert each not in self.text, self.text
        assert re.search(r"^Full statespace search for:", self.text, re.MULTILINE), self.text
        assert re.search(r"^\s+assertion violations\s+\+$", self.text, re.MULTILINE), self.text

    def _only(self, pattern: str) -> str:
        found = re.search(pattern, self.text)
        assert found, self.text
        return found[1]


def search(directory: Path, *macros: str, optimised: bool = False, steps: int = STEPS) -> Search:
    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=SEARCH_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("spin", "-a", *(f"-D{each}" for each in macros), str(MODEL))
    # Steps of different nodes are never independent in this model, so looking for such steps would be in vain.
    options = ("-DSAFETY", "-DCOLLAPSE", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MIB}", "-w")
    run("gcc", "-O2" if optimised else "-O0", *options, "-o", "pan", "pan.c")
    return Search(run("./pan", f"-m{steps}", "-w22"))


@pytest.mark.parametrize(
    ("macros", "states_min"),
    [
        pytest.param(THREE_TAKEOVERS, 100_000, id="three takeovers"),
        pytest.param(FOUR_TAKEOVERS, 500_000, id="four takeovers"),
        pytest.param(TWO_FACTS_EACH, 500_000, id="two facts each"),
        pytest.param(TWO_REBOOTS, 100_000, id="two reboots"),
        pytest.param(ONE_IN_ONE_OUT, 500_000, id="one in, one out"),
        pytest.param(TWO_BECOME_THREE, 50_000, id="two become three"),
    ],
)
def test_what_was_acknowledged_is_never_lost(macros: tuple[str, ...], states_min: int, tmp_path: Path) -> None:
    found = search(tmp_path, *macros, optimised=True)
    assert found.errors == 0, found.text
    found.check_complete()
    assert found.states >= states_min  # a model that can do little holds easily


def test_a_search_that_was_cut_off_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    found = search(tmp_path, *THREE_TAKEOVERS, steps=100)
    assert found.errors == 0
    with pytest.raises(AssertionError, match="too small"):
        found.check_complete()


@pytest.mark.parametrize(
    "macros",
    [
        pytest.param((*TAKEOVERS, "VOTES=1", "ACK=1", "FENCE=0"), id="one vote, one journal, no fence"),
        pytest.param((*TAKEOVERS, "VOTES=2", "ACK=1", "FENCE=0"), id="two votes, one journal, no fence"),
        pytest.param((*TAKEOVERS, "VOTES=2", "ACK=2", "FENCE=0"), id="two votes, two journals, no fence"),
        pytest.param((*TAKEOVERS, "VOTES=1", "ACK=1"), id="one vote, one journal"),
        pytest.param((*TAKEOVERS, "VOTES=1", "ACK=2"), id="one vote, two journals"),
        pytest.param((*TAKEOVERS, "VOTES=2", "ACK=1"), id="two votes, one journal"),
        pytest.param((*TAKEOVERS, "LONGEST_LOG"), id="adopt the longest log"),
        pytest.param((*TAKEOVERS, "ADOPTED_AT_ONCE"), id="adopted entries count before TookOver"),
        pytest.param((*TAKEOVERS, "CUT_BY_OVERTAKEN"), id="an append cuts what agrees with it"),
        pytest.param((*TAKEOVERS, "NO_PREDECESSOR"), id="an append does not name what it follows"),
        pytest.param((*TAKEOVERS, "FORGET_PROMISE"), id="forget the promise in a crash"),
        pytest.param((*TAKEOVERS, "EMPTY_DISK"), id="an empty disk votes"),
        pytest.param((*TAKEOVERS, "REBOOTS=1", "REBOOTED_COUNTS"), id="who rebooted counts at once"),
        pytest.param((*REPLACEMENTS, "COUNT_A_LEARNER"), id="count a learner"),
        pytest.param((*REPLACEMENTS, "NO_RECOUNT"), id="no recount in the newer set"),
        pytest.param((*REPLACEMENTS, "CHANGES_PENDING"), id="a change while another is uncommitted"),
        pytest.param(
            (*FOUR_SEATS, "CHANGE_BEFORE_TOOKOVER", "COUNT_IN_NEWEST_SET"),
            id="a change before TookOver, and all counts in the newest set",
        ),
        pytest.param((*TWO_BECOME_THREE, "LATECOMERS=1", "GROWS_BY_OLD_SET"), id="one of two seats makes three"),
        pytest.param(
            (*TWO_BECOME_THREE, "LATECOMERS=1", "COUNT_IN_NEWEST_SET"), id="TookOver commits the change to three"
        ),
    ],
)
def test_without_one_of_its_rules_something_acknowledged_is_lost(macros: tuple[str, ...], tmp_path: Path) -> None:
    found = search(tmp_path, *macros)
    assert found.errors == 1, found.text
    assert "acknowledged[at]==log[me].entry[at]" in found.violated


@pytest.mark.parametrize(
    ("number", "macros"),
    [
        pytest.param(1, THREE_TAKEOVERS, id="a takeover while the entries of an earlier one are partly copied"),
        pytest.param(2, THREE_TAKEOVERS, id="a candidate cuts a tail of its own that differs"),
        pytest.param(3, THREE_TAKEOVERS, id="entries of three coordinators acknowledged together"),
        pytest.param(1, ONE_IN_ONE_OUT, id="the same with changes of the set"),
        pytest.param(4, ONE_IN_ONE_OUT, id="a takeover adopts a change that is not committed"),
        pytest.param(5, ONE_IN_ONE_OUT, id="the newcomer takes over"),
        pytest.param(6, ONE_IN_ONE_OUT, id="votes that were enough are not in the set adopted"),
        pytest.param(7, TWO_REBOOTS, id="who rebooted has caught up"),
        pytest.param(8, TWO_BECOME_THREE, id="a second coordinator acknowledges once three seats promise"),
    ],
)
def test_what_makes_takeovers_difficult_does_occur(number: int, macros: tuple[str, ...], tmp_path: Path) -> None:
    """The same settings hold, so that the one assertion that can be found wrong is the one that names the state."""
    found = search(tmp_path, *macros, f"REACH={number}")
    assert found.errors == 1, found.text
    assert f"{number}=={number}" in found.violated
