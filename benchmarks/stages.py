"""Measure where the time goes, stage by stage."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any, NamedTuple
from unittest.mock import patch


class Watched(NamedTuple):
    """A callable whose time counts towards a stage.

    Args:
        owner: The object, class or module that has the callable.
        name: The callable's name there.
        stage: The stage its time counts towards.
    """

    owner: Any
    name: str
    stage: str


class Stages:
    """Seconds per stage, each without the stages that run inside it.

    Args:
        settle: Called before each look at the clock; waits for what a GPU still computes.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None):
        self.seconds: dict[str, float] = {}
        self._settle = settle
        self._inner = [0.0]

    def add(self, stage: str, seconds: float) -> None:
        """Adds to a stage's seconds."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str, call: Callable) -> Callable:
        """Wraps a callable so that its time counts towards a stage."""

        def run(*args, **kwargs):
            self._inner.append(0.0)
            self._settle()
            began = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self._settle()
                taken = perf_counter() - began
                self.add(stage, taken - self._inner.pop())
                self._inner[-1] += taken

        return run

    @contextmanager
    def watching(self, watched: Sequence[Watched]) -> Iterator[None]:
        """Times these callables within the block; all of them must run in this thread."""
        with ExitStack() as stack:
            for owner, name, stage in watched:
                stack.enter_context(
                    patch.object(owner, name, self.timed(stage, getattr(owner, name)))
                )
            yield

    def bottleneck(self) -> str:
        """Names the stage that takes most of the time, and its share."""
        stage = max(self.seconds, key=lambda name: self.seconds[name])
        return f"{stage} ({self.seconds[stage] / sum(self.seconds.values()):.0%})"

    def __str__(self) -> str:
        return ", ".join(f"{stage} {taken:.2f}" for stage, taken in self.seconds.items())
