"""Work in threads, some items ahead of its consumer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Wraps an iteration to show how far it is; called with the items and their number."""


def no_progress(items: Iterable[Any], _total: int) -> Iterable[Any]:
    return items


def workers() -> int:
    """Threads for decoding: one a core, as decoders release the interpreter's lock."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return min(16, len(affinity(0)) if affinity else os.cpu_count() or 1)


def prefetch(
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
