"""The summary that every command over people's files prints and keeps."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ml_backend.store.summary import KINDS, MOST_NAMES, Summary

_NOTES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.text(max_size=5), st.sampled_from(["", ".txt", ".nd2"]))
)


@given(_NOTES)
def test_nothing_that_was_noted_is_lost_in_the_counts(notes: list) -> None:
    """The counts of all groups add up to the notes, whatever was noted in which order."""
    summary = Summary()
    for kind, name, detail in notes:
        summary.add(kind, name, detail)
    for kind in KINDS:
        assert summary.count(kind) == sum(noted == kind for noted, _, _ in notes)


@given(_NOTES)
def test_json_reads_back(notes: list) -> None:
    """What was written as JSON says the same when it is read again."""
    summary = Summary()
    for kind, name, detail in notes:
        summary.add(kind, name, detail)
    again = Summary.parse(json.loads(json.dumps(summary.as_json())))
    assert again.as_json() == summary.as_json()
    assert list(again.lines()) == list(summary.lines())


@given(_NOTES, _NOTES)
def test_two_summaries_add_up(first: list, second: list) -> None:
    """Updating one summary by another equals noting everything in one."""
    whole, left, right = Summary(), Summary(), Summary()
    for part, notes in ((left, first), (right, second)):
        for kind, name, detail in notes:
            part.add(kind, name, detail)
            whole.add(kind, name, detail)
    left.update(right)
    for kind in KINDS:
        assert left.count(kind) == whole.count(kind)


def test_a_line_names_the_first_and_counts_the_rest() -> None:
    """People read the ending, how many there are, the first names, and that there are more."""
    summary = Summary()
    for number in range(MOST_NAMES + 3):
        summary.add("passed_over", f"{number}.nd2", ".nd2 is not read")
    (line,) = summary.lines()
    assert line == "passed over 8: .nd2 is not read: 0.nd2, 1.nd2, 2.nd2, 3.nd2, 4.nd2 and 3 more"
