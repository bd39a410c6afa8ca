"""Deliberate mistakes stay mistakes: the code that each one changes is still what it says."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, fault_of
from tests.mutants.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    assert fault_of(mutant, ROOT) is None


def test_there_are_at_least_twenty_and_no_two_are_alike() -> None:
    assert len({(each.file, each.old, each.new) for each in MUTANTS}) == len(MUTANTS) >= 20
    assert len({each.name for each in MUTANTS}) == len(MUTANTS)


def test_a_mutant_whose_text_is_gone_is_an_error() -> None:
    gone = Mutant("gone", MUTANTS[0].file, "no such text", "")
    assert "write it anew" in (fault_of(gone, ROOT) or "")
    nonsense = Mutant("nonsense", MUTANTS[0].file, MUTANTS[0].old, "if if")
    assert "no Python" in (fault_of(nonsense, ROOT) or "")
