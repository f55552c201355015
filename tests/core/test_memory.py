import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kryptonite.core import memory


@pytest.fixture
def uncached():
    """Lets every test call `keep_freed_memory` as if for the first time."""
    memory.keep_freed_memory.cache_clear()
    yield
    memory.keep_freed_memory.cache_clear()


@pytest.fixture
def glibc(monkeypatch):
    """Replaces glibc's functions; gives the list of calls."""
    calls = []

    class Library:
        @staticmethod
        def mallopt(option, value):
            calls.append(("mallopt", option, value))
            return 1

        @staticmethod
        def malloc_trim(pad):
            calls.append(("malloc_trim", pad))
            return 1

    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library)
    return calls


def test_keep_freed_memory_sets_each_option_once_when_called_twice(uncached, glibc):
    assert memory.keep_freed_memory() is True and memory.keep_freed_memory() is True
    options = [option for _, option, _ in glibc]
    assert len(options) == len(set(options)) == 4


def test_keep_freed_memory_returns_false_when_an_option_is_rejected(uncached, glibc, monkeypatch):
    monkeypatch.setattr(memory.ctypes.CDLL(None), "mallopt", lambda option, value: option != -8)
    assert memory.keep_freed_memory() is False


def test_return_freed_memory_trims_the_heap_each_time(glibc):
    assert memory.return_freed_memory() is None and memory.return_freed_memory() is None
    assert glibc == [("malloc_trim", 0)] * 2


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_memory_functions_do_nothing_when_platform_is_not_linux(
    uncached, glibc, monkeypatch, platform
):
    monkeypatch.setattr(memory.sys, "platform", platform)
    assert memory.keep_freed_memory() is False
    memory.return_freed_memory()
    assert glibc == []


def test_memory_functions_do_nothing_when_c_library_lacks_them(uncached, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
    memory.return_freed_memory()


def test_budget_lets_threads_hold_no_more_than_the_total_unless_one_is_alone():
    budget = memory.Budget(10)
    held, together = [], []

    def work(amount):
        with budget.hold(amount):
            held.append(amount)
            together.append(tuple(held))
            time.sleep(0.001)
            held.remove(amount)

    amounts = [3, 4, 99, 2, 10, 5, 0, 6] * 5
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, amounts))
    assert len(together) == len(amounts) and not held
    assert all(sum(each) <= 10 or sum(each) == max(each) == 99 for each in together)


def test_budget_is_free_again_when_its_holder_fails():
    budget = memory.Budget(1)
    for _ in range(2):
        with pytest.raises(ValueError), budget.hold(1):
            raise ValueError
