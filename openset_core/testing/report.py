"""What a check is, how it fails, and what a list of checks comes to."""

from __future__ import annotations

import inspect
import traceback
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import attrs

from openset_core.errors import OpensetError

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class ConformanceError(OpensetError):
    """A part does not keep one of its contracts.

    Attributes:
        check: name of the check.
        contract: what the part has to keep.
        seen: what it did instead.
        part: kind and name of the part.
    """

    def __init__(self, check: str, contract: str, seen: str, part: str) -> None:
        super().__init__(check, contract, seen, part)
        self.check, self.contract, self.seen, self.part = check, contract, seen, part

    def __str__(self) -> str:
        return f"{self.part} fails check {self.check}: {self.contract} Seen: {self.seen}"


class Seen(Exception):
    """Raised inside a check: what the part did instead of keeping the contract."""


def fail(seen: str) -> NoReturn:
    """End a check: the contract is broken.

    Args:
        seen: what the part did.
    """
    raise Seen(seen)


def not_applicable(reason: str) -> NoReturn:
    """End a check that has nothing to look at.

    Args:
        reason: why, for the list.
    """
    raise unittest.SkipTest(reason)


@attrs.frozen
class Check:
    """One contract and how it is looked at.

    Attributes:
        name: unique among the checks of a kind, for example `logits-shape`.
        contract: one or two sentences.
        run: called with what is checked; raises `Seen`.
    """

    name: str
    contract: str
    run: Callable[[Any], None]


class Checks:
    """A list of checks that grows by decoration: name and docstring say check and contract."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def __call__(self, function: Callable[[Any], None]) -> Callable[[Any], None]:
        contract = " ".join((inspect.getdoc(function) or "").split())
        name = function.__name__.replace("_", "-")
        self._checks.append(Check(name, contract, function))
        return function

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks)


@attrs.frozen
class BoundCheck:
    """A check of one part; calling it runs the check. `str()` of it is the check's name.

    Attributes:
        check: what is checked.
        subject: the part, with its options.
    """

    check: Check
    subject: Any = attrs.field(repr=False)

    def __str__(self) -> str:
        return self.check.name

    @property
    def __name__(self) -> str:
        """The check's name, as test runners show it."""
        return self.check.name

    def __call__(self) -> None:
        """Run the check.

        Raises:
            ConformanceError: the part breaks the contract.
            unittest.SkipTest: the check does not apply; pytest shows it as skipped.
        """
        cause: BaseException
        try:
            with settled():
                self.check.run(self.subject)
            return
        except unittest.SkipTest:
            raise
        except Seen as error:
            seen, cause = str(error), error
        except Exception as error:
            seen, cause = _crash(error), error
        raise ConformanceError(
            self.check.name, self.check.contract, seen, self.subject.title
        ) from cause


@contextmanager
def settled() -> Iterator[None]:
    """The same random numbers for every check; those of the caller are put back."""
    import random

    import numpy as np
    import torch

    kept, kept_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(kept)
            np.random.set_state(kept_numpy)


def _crash(error: BaseException) -> str:
    """An exception nobody foresaw, with the last line of the plugin that it came from."""
    here = Path(__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if Path(frame.filename).parent != here]
    where = ""
    if theirs:
        own = [frame for frame in theirs if "site-packages/torch" not in frame.filename]
        last = (own or theirs)[-1]
        where = f" ({Path(last.filename).name}, line {last.lineno}, in {last.name})"
    reason = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason}{where}"


@attrs.frozen
class CheckResult:
    """How one check went.

    Attributes:
        name: the check.
        contract: what it looks at.
        outcome: `"passed"`, `"failed"` or `"skipped"`.
        reason: what was seen, or why the check does not apply.
        error: the exception of a failed check.
    """

    name: str
    contract: str
    outcome: str
    reason: str = ""
    error: ConformanceError | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        line = f"  {self.outcome:<7}  {self.name}"
        if self.outcome == SKIPPED:
            line += f": {self.reason}"
        if self.outcome == FAILED:
            line += f"\n           contract: {self.contract}\n           seen: {self.reason}"
        return line


@attrs.frozen
class Report:
    """How all checks of a part went.

    Attributes:
        part: kind and name of the part.
        results: one a check, in order.
    """

    part: str
    results: tuple[CheckResult, ...]

    def of(self, outcome: str) -> list[CheckResult]:
        """The results with an outcome."""
        return [result for result in self.results if result.outcome == outcome]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.of(FAILED)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [result.name for result in self.of(FAILED)]

    @property
    def counts(self) -> str:
        """How many checks went how."""
        return ", ".join(f"{len(self.of(kind))} {kind}" for kind in (PASSED, FAILED, SKIPPED))

    def __str__(self) -> str:
        lines = [f"{self.part}: {len(self.results)} checks", *map(str, self.results)]
        return "\n".join([*lines, self.counts])


def run_checks(
    title: str,
    checks: list[BoundCheck],
    raises: bool,
    tell: Callable[[CheckResult], None] = lambda _result: None,
) -> Report:
    """Run checks in order.

    Args:
        title: kind and name of the part.
        checks: what to run.
        raises: stop at the first failure and raise it.
        tell: called with each result.

    Raises:
        ConformanceError: a check failed, and `raises`.
    """
    results = []
    for bound in checks:
        name, contract = bound.check.name, bound.check.contract
        try:
            bound()
            result = CheckResult(name, contract, PASSED)
        except unittest.SkipTest as reason:
            result = CheckResult(name, contract, SKIPPED, str(reason))
        except ConformanceError as error:
            if raises:
                raise
            result = CheckResult(name, contract, FAILED, error.seen, error)
        results.append(result)
        tell(result)
    return Report(title, tuple(results))
