"""Whatever happens to a few copies, nothing that was committed is lost, and in the quiet after it they go on."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.ft.storm import Storm

SEEDS = range(200)

MUST_OCCUR = (
    "takeovers",
    "a takeover during a set change",
    "a tail was taken back",
    "a copy became sure",
    "a copy was dropped",
    "a quorum was made",
    "lost unsynced entries",
    "late messages",
    "sets settled",
    "stalled",
    "goes on",
    "a takeover during a takeover",
    "a journal was adopted from a voter",
    "catching up was interrupted",
    "a candidate crashed",
    "a coordinator handed over",
    "two histories met",
    "a seat was found empty",
    "a reign was followed by the same node's",
    "the power was cut",
    "all voted, but too few were sure",
    "what was promised was lost with the power",
)


@pytest.mark.long
def test_no_random_faults_lose_what_was_committed_or_stop_it_for_good() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen += Storm(seed).run()
    assert not [state for state in MUST_OCCUR if not seen[state]], f"never entered: {seen}"
