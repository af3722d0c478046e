"""Work done some items ahead of who asks for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 16


def workers() -> int:
    """Threads for decoding: one a core, as decoders release the interpreter's lock."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) if _has_affinity() else _cores())


def _has_affinity() -> bool:
    return hasattr(os, "sched_getaffinity")  # Linux only


def _cores() -> int:
    return os.cpu_count() or 1


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[Result]:
    """`map` in threads, in order, at most `window` results ahead, so that memory is bounded.

    Leaving the iteration early stops what has not begun. An error of `function` is raised where
    its result would have come.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers())
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
