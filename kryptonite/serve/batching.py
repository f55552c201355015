"""Gathers requests into batches for one worker thread."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from kryptonite.serve.errors import ServiceError

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Computes items in batches, in the order they come.

    A batch is whatever has come while the one before was computed, so a single client never waits
    for others, and many fill the batches.

    Args:
        compute: Gives the results of a batch, an exception in the place of an item that has none.
        weigh: An item's share of a batch: the sum over a batch of more than one item is at most 1.
        places: Requests in the house at a time, from before their body is read to their answer.
        observe: Is told the size of every batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        weigh: Callable[[Item], float],
        places: int,
        observe: Callable[[int], None],
    ):
        self._compute, self._weigh, self._observe = compute, weigh, observe
        self._places, self._taken = places, 0
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    @property
    def waiting(self) -> int:
        """Items that wait for their batch."""
        return len(self._waiting)

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more items, computes those that wait, and ends the worker."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place for one request.

        Raises:
            ServiceError: All are taken (`busy`).
        """
        with self._changed:
            if self._taken >= self._places:
                raise ServiceError("busy")
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1

    def submit(self, item: Item) -> "Future[Result]":
        """Queues an item; cancelling what this returns takes it back unless its batch has begun.

        What was taken back is let go of at once: a long batch must not hoard uploads that nobody
        waits for.

        Raises:
            ServiceError: The service ends (`stopping`).
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._stopping:
                raise ServiceError("stopping")
            self._waiting.append((item, future))
            self._changed.notify()

        def take_back(_: object) -> None:
            if future.cancelled():
                with self._changed, suppress(ValueError):
                    self._waiting.remove((item, future))

        future.add_done_callback(take_back)
        return future

    def _work(self) -> None:
        while batch := self._next():
            self._observe(len(batch))
            self._answer(batch)
            del batch  # an upload must not outlive its answer until the next request comes

    def _next(self) -> list[tuple[Item, "Future[Result]"]]:
        """Waits for the next batch; empty at the end."""
        with self._changed:
            batch: list[tuple[Item, Future[Result]]] = []
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return []
                weight = 0.0
                while self._waiting:
                    item, future = self._waiting[0]
                    weight += self._weigh(item)
                    if batch and weight > 1 + 1e-9:
                        break
                    self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        batch.append((item, future))
            return batch

    def _answer(self, batch: Sequence[tuple[Item, "Future[Result]"]]) -> None:
        try:
            results = self._compute([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                # One request must not fail the others.
                for each in batch:
                    self._answer([each])
                return
            _log.exception("a request failed")
            results = [error]
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
