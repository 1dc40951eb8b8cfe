"""Confirms put together say what was confirmed, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.broker.embedded.model.confirming import AnsweredPublishes


def test_a_run_is_one_frame() -> None:
    """With `multiple`; a single one goes without."""
    answered = AnsweredPublishes()
    assert answered.runs([1, 2, 3]) == [(3, True)]
    assert answered.runs([4]) == [(4, False)]
    assert answered.runs([6, 5]) == [(6, True)]


def test_nothing_speaks_for_a_publish_that_is_not_answered() -> None:
    """What comes behind it is confirmed by itself."""
    answered = AnsweredPublishes()
    assert answered.runs([2, 3]) == [(2, False), (3, False)]
    assert answered.runs([4]) == [(4, False)]
    assert answered.runs([1, 6]) == [(1, False), (6, False)]
    assert answered.runs([5]) == [(5, False)]
    assert answered.runs([7, 8]) == [(8, True)]


def test_a_refused_one_leaves_no_gap() -> None:
    """It has been answered, by a frame of its own."""
    answered = AnsweredPublishes()
    answered.one(1)
    assert answered.runs([2, 3]) == [(3, True)]


@given(st.data())
def test_the_frames_confirm_what_was_told_and_no_more(data: st.DataObject) -> None:
    """As a publisher counts: `multiple` for all of its outstanding ones up to the tag."""
    tags = data.draw(st.permutations(range(1, data.draw(st.integers(1, 30)) + 1)))
    lost = set(data.draw(st.lists(st.sampled_from(tags), max_size=3)))
    refused = set(data.draw(st.lists(st.sampled_from(tags), max_size=3))) - lost
    answered, outstanding = AnsweredPublishes(), set(tags)
    told: set[int] = set()
    while tags:
        size = data.draw(st.integers(1, len(tags)))
        batch, tags = [t for t in tags[:size] if t not in lost], tags[size:]
        for tag in [t for t in batch if t in refused]:
            answered.one(tag)
            outstanding.remove(tag)
        confirmed = [t for t in batch if t not in refused]
        told.update(confirmed)
        for tag, multiple in answered.runs(list(confirmed)) if confirmed else ():
            outstanding -= {t for t in outstanding if t <= tag} if multiple else {tag}
        assert outstanding.isdisjoint(told)
        assert lost <= outstanding
    assert outstanding == lost
