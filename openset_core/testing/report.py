"""What a check is, how it fails, and how the checks of a component went."""

from __future__ import annotations

import inspect
import traceback
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import attrs

from openset_core.errors import OpensetError

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class ConformanceError(OpensetError):
    """A component does not keep one of its contracts.

    Attributes:
        check: name of the check.
        contract: what the component has to keep.
        seen: what it did instead.
        component: kind and name of the component.
    """

    def __init__(self, check: str, contract: str, seen: str, component: str) -> None:
        super().__init__(check, contract, seen, component)
        self.check, self.contract, self.seen, self.component = check, contract, seen, component

    def __str__(self) -> str:
        return f"{self.component} fails check {self.check}: {self.contract} Seen: {self.seen}"


class ContractViolation(Exception):
    """Raised inside a check: what the component did instead of keeping the contract."""


def fail(seen: str) -> NoReturn:
    """End a check: the contract is broken."""
    raise ContractViolation(seen)


def not_applicable(reason: str) -> NoReturn:
    """End a check that does not apply to this component."""
    raise unittest.SkipTest(reason)


@attrs.frozen
class Check:
    """One contract, the function that checks it, and the kinds of components that it is for."""

    name: str
    contract: str
    run: Callable[[Any], None]
    kinds: tuple[str, ...]


class Checks:
    """Checks of a module, registered by decoration: a function's name and docstring become the
    check's name and contract. They are for `kinds` of components unless `only` names others."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds
        self._checks: list[Check] = []

    def __call__(self, function: Callable[[Any], None]) -> Callable[[Any], None]:
        return self.only(*self._kinds)(function)

    def only(self, *kinds: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
            contract = " ".join((inspect.getdoc(function) or "").split())
            name = function.__name__.replace("_", "-")
            self._checks.append(Check(name, contract, function, kinds))
            return function

        return register

    def of(self, kind: str) -> list[Check]:
        return [check for check in self._checks if kind in check.kinds]


@attrs.frozen
class BoundCheck:
    """A check of one component; calling it runs the check. `str()` of it is the check's name."""

    check: Check
    component: Any = attrs.field(repr=False)

    def __str__(self) -> str:
        return self.check.name

    @property
    def __name__(self) -> str:
        """The check's name, as test runners show it."""
        return self.check.name

    def __call__(self) -> None:
        """Run the check, always from the same random numbers; those of the caller are restored.

        Raises:
            ConformanceError: the component breaks the contract.
            unittest.SkipTest: the check does not apply; pytest shows it as skipped.
        """
        from openset_core.training.checkpoint import preserved_random_state

        try:
            with preserved_random_state(seed=0):
                self.check.run(self.component)
        except unittest.SkipTest:
            raise
        except Exception as error:
            seen = str(error) if isinstance(error, ContractViolation) else _crash(error)
            check = self.check
            raise ConformanceError(
                check.name, check.contract, seen, self.component.title
            ) from error


def _crash(error: BaseException) -> str:
    """An unexpected exception, with the last line of the plugin's own code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if Path(frame.filename).parent != Path(__file__).parent]
    own = [frame for frame in theirs if "site-packages/torch" not in frame.filename]
    where = ""
    if theirs:
        last = (own or theirs)[-1]
        where = f" ({Path(last.filename).name}, line {last.lineno}, in {last.name})"
    reason = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason}{where}"


@attrs.frozen
class CheckResult:
    """How one check went.

    Attributes:
        check: what was checked.
        outcome: `"passed"`, `"failed"` or `"skipped"`.
        reason: what was seen, or why the check does not apply.
        error: the exception of a failed check.
    """

    check: Check
    outcome: str
    reason: str = ""
    error: ConformanceError | None = attrs.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name of the check."""
        return self.check.name

    @property
    def contract(self) -> str:
        """What it checks."""
        return self.check.contract

    def __str__(self) -> str:
        line = f"  {self.outcome:<7}  {self.name}"
        if self.outcome == SKIPPED:
            line += f": {self.reason}"
        if self.outcome == FAILED:
            line += f"\n           contract: {self.contract}\n           seen: {self.reason}"
        return line


@attrs.frozen
class Report:
    """How all checks of a component went.

    Attributes:
        component: kind and name of the component.
        results: one a check, in order.
    """

    component: str
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
        """How many checks passed, failed and were skipped."""
        return ", ".join(f"{len(self.of(kind))} {kind}" for kind in (PASSED, FAILED, SKIPPED))

    def __str__(self) -> str:
        lines = [f"{self.component}: {len(self.results)} checks", *map(str, self.results)]
        return "\n".join([*lines, self.counts])


def run_checks(
    title: str,
    checks: list[BoundCheck],
    raises: bool,
    tell: Callable[[CheckResult], None] = lambda _result: None,
) -> Report:
    """Run checks in order and tell each result; with `raises` the first failure is raised."""
    results = []
    for bound in checks:
        try:
            bound()
            result = CheckResult(bound.check, PASSED)
        except unittest.SkipTest as reason:
            result = CheckResult(bound.check, SKIPPED, str(reason))
        except ConformanceError as error:
            if raises:
                raise
            result = CheckResult(bound.check, FAILED, error.seen, error)
        results.append(result)
        tell(result)
    return Report(title, tuple(results))
