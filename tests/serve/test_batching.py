"""The queue before the worker thread."""

import threading
from concurrent.futures import wait

import pytest

from kryptonite.serve.batching import Batcher
from kryptonite.serve.errors import ServiceError


class Bench:
    """Doubles numbers; holds the first batch until it is released."""

    def __init__(self):
        self.batches, self.sizes = [], []
        self.begun, self.release = threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(list(items))
        self.begun.set()
        assert self.release.wait(30)
        return [ValueError(item) if item < 0 else 2 * item for item in items]


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def batcher(bench):
    weights = {7: 0.9}
    batcher = Batcher(bench, lambda item: weights.get(item, 0.25), 3, bench.sizes.append)
    batcher.start()
    yield batcher
    bench.release.set()
    batcher.stop()


def test_batcher_computes_together_what_came_meanwhile(bench, batcher):
    first = batcher.submit(0)
    assert bench.begun.wait(30)
    others = [batcher.submit(number) for number in range(1, 7)]
    assert batcher.waiting == 6
    bench.release.set()
    assert [future.result(30) for future in (first, *others)] == list(range(0, 14, 2))
    assert bench.batches == [[0], [1, 2, 3, 4], [5, 6]] and bench.sizes == [1, 4, 2]


def test_batcher_keeps_batches_to_their_weight(bench, batcher):
    batcher.submit(0)
    assert bench.begun.wait(30)
    others = [batcher.submit(number) for number in (1, 7, 7, 2)]
    bench.release.set()
    wait(others, 30)
    assert bench.batches == [[0], [1], [7], [7], [2]]


def test_batcher_gives_each_item_its_own_error(bench, batcher):
    batcher.submit(0)
    assert bench.begun.wait(30)
    fine, broken = batcher.submit(1), batcher.submit(-1)
    bench.release.set()
    assert fine.result(30) == 2
    with pytest.raises(ValueError, match="-1"):
        broken.result(30)


def test_batcher_computes_items_alone_when_their_batch_fails(caplog):
    def compute(items):
        if 3 in items:
            raise RuntimeError("three")
        return items

    batcher = Batcher(compute, lambda _: 0.1, 9, lambda _: None)
    futures = [batcher.submit(number) for number in range(5)]
    batcher.start()  # now they are one batch
    assert [future.result(30) for future in futures if future is not futures[3]] == [0, 1, 2, 4]
    with pytest.raises(RuntimeError, match="three"):
        futures[3].result(30)
    assert caplog.messages == ["a request failed"]
    batcher.stop()


def test_batcher_lets_go_of_what_was_cancelled_while_it_waited(bench, batcher):
    batcher.submit(0)
    assert bench.begun.wait(30)
    gone, kept = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    assert batcher.waiting == 1
    bench.release.set()
    assert kept.result(30) == 4 and bench.batches == [[0], [2]]


def test_batcher_has_so_many_places(batcher):
    with batcher.place(), batcher.place():
        with batcher.place(), pytest.raises(ServiceError) as refused, batcher.place():
            pass
        with batcher.place():
            pass
    assert refused.value.code == "busy" and refused.value.headers == {"Retry-After": "1"}


def test_batcher_computes_what_waits_before_it_stops(bench, batcher):
    first = batcher.submit(0)
    assert bench.begun.wait(30)
    last = batcher.submit(1)
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    while True:
        try:
            batcher.submit(2).cancel()
        except ServiceError as error:
            assert error.code == "stopping"
            break
    bench.release.set()
    stopping.join(30)
    assert (first.result(0), last.result(0)) == (0, 2) and not stopping.is_alive()
