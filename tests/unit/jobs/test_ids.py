"""Ids: new ones, which no other has; and those that follow from something, which are the same in
every release, or old duplicates are new jobs."""

import threading
import uuid
from multiprocessing import get_context

from amqpjobs.jobs.message.ids import derived_id, is_new_job_id, keyed_id, new_job_id, random_digits


def test_a_new_id_is_a_uuid_that_no_other_job_has() -> None:
    """Also of threads that make them at the same time: two jobs of one id would be one."""
    made: list[list[str]] = [[] for _ in range(8)]

    def make(ids: list[str]) -> None:
        ids.extend(new_job_id() for _ in range(5000))

    threads = [threading.Thread(target=make, args=(ids,)) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = [job_id for ids in made for job_id in ids]
    assert len({job_id[14:] for job_id in together}) == len(together) == 40_000
    assert all(map(is_new_job_id, together))
    assert {uuid.UUID(job_id).version for job_id in together} == {7}


def test_processes_that_are_forked_have_digits_of_their_own() -> None:
    """The parent has some in stock, which both would go on with."""
    random_digits()
    with get_context("fork").Pool(2) as pool:
        children = [each for part in pool.map(_many, [100, 100], chunksize=1) for each in part]
    digits = [random_digits() for _ in range(100)] + children
    assert len(set(digits)) == len(digits)
    assert {len(each) for each in digits} == {32}


def _many(count: int) -> list[str]:
    return [random_digits() for _ in range(count)]


def test_the_same_key_is_the_same_job() -> None:
    """Of one app and one job; pinned, since keys of yesterday must be known tomorrow."""
    one = keyed_id("shop", "send_receipt", "order-7")
    assert one == "44fd6cd3-b6d6-5b46-80d6-d78f1b028539"
    others = {
        keyed_id("shop", "send_receipt", "order-8"),
        keyed_id("shop", "send_reminder", "order-7"),
        keyed_id("shops", "end_receipt", "order-7"),
    }
    assert len({one, *others}) == 4


def test_parts_are_not_run_together() -> None:
    """What is one part in one id is none of another's."""
    assert derived_id("a", "bc") != derived_id("ab", "c")
