"""The conformance kit: does a plugin keep the contracts that its partners rely on?

    from openset_core import testing

    testing.check_representation_loss("my-loss")             # raises at the first broken contract
    print(testing.check_plugin("my-loss", raises=False))     # runs all checks, reports all

or, with one test a check:

    @pytest.mark.parametrize("check", testing.checks("my-loss"), ids=str)
    def test_conformance(check):
        check()

The checks build the part with small partners on a CPU and take seconds. They say nothing of
whether a method is any good; they say that it can be mixed with every other part.
"""

from __future__ import annotations

from typing import Any

from openset_core.testing.component_under_test import Subject, subject_of
from openset_core.testing.report import (
    BoundCheck,
    CheckResult,
    Checks,
    ConformanceError,
    Report,
    run_checks,
)

__all__ = [
    "BoundCheck",
    "CheckResult",
    "ConformanceError",
    "Report",
    "check_backbone",
    "check_plugin",
    "check_representation_loss",
    "check_sample_generator",
    "check_unknown_scorer",
    "checks",
]

KINDS = (
    "backbone",
    "loss",
    "scorer",
    "generator",
    "observer",
    "dataset",
    "protocol",
    "recipe",
    "figure",
)
FILE_KINDS = ("protocol", "recipe")
"""Kinds that are TOML files, and so have no options."""


def checks(part: Any, config: Any = None) -> list[BoundCheck]:
    """The checks of a part of any kind, for a test runner to call one by one.

    Args:
        part: name as in `--plugins` (a family's `prefix:NAME` too), a spec, or a `Component`.
        config: options by name, an object of the spec's config class, or None for defaults.

    Returns:
        Callables; `str()` of one is its name. Each raises `ConformanceError`, or
        `unittest.SkipTest` where it does not apply.

    Raises:
        PluginError: no such part.
        ConfigError: an unknown option or a value out of range.
    """
    return _bound(subject_of(part, config, KINDS))


def check_plugin(part: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a part of any kind; see `checks` for the arguments.

    Args:
        part: what to check.
        config: its options.
        raises: raise the first failure; with False all checks run and the report tells.

    Raises:
        ConformanceError: a contract is broken, and `raises`.
        PluginError: no such part.
        ConfigError: an unknown option or a value out of range.
    """
    return _run(subject_of(part, config, KINDS), raises)


def check_backbone(part: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a backbone; see `check_plugin`."""
    return _run(subject_of(part, config, ("backbone",)), raises)


def check_representation_loss(part: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a representation loss; see `check_plugin`."""
    return _run(subject_of(part, config, ("loss",)), raises)


def check_unknown_scorer(part: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check an unknown scorer; see `check_plugin`."""
    return _run(subject_of(part, config, ("scorer",)), raises)


def check_sample_generator(part: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a sample generator; see `check_plugin`."""
    return _run(subject_of(part, config, ("generator",)), raises)


def _run(subject: Subject, raises: bool) -> Report:
    return run_checks(subject.title, _bound(subject), raises)


def _bound(subject: Subject) -> list[BoundCheck]:
    lists = _lists(subject.component.kind)
    found = [BoundCheck(check, subject) for checks in lists for check in checks]
    if subject.options is None and subject.component.kind not in FILE_KINDS:  # nothing can be built
        return [bound for bound in found if bound.check.name == "options-have-defaults"]
    return found


def _lists(kind: str) -> list[Checks]:
    """The lists of checks of a kind; each module is imported when its kind is checked."""
    from openset_core.testing import misc_checks as others
    from openset_core.testing import options

    if kind in FILE_KINDS:
        return [others.PROTOCOL_CHECKS if kind == "protocol" else others.RECIPE_CHECKS]
    if kind == "figure":
        from openset_core.testing.figures import FIGURE_CHECKS

        return [FIGURE_CHECKS]
    own: Checks
    if kind == "backbone":
        from openset_core.testing.backbones import BACKBONE_CHECKS as own
    elif kind == "loss":
        from openset_core.testing.losses import LOSS_CHECKS as own
    elif kind == "scorer":
        from openset_core.testing.scorers import SCORER_CHECKS as own
    elif kind == "generator":
        from openset_core.testing.generators import GENERATOR_CHECKS as own
    elif kind == "observer":
        own = others.OBSERVER_CHECKS
    else:
        own = others.DATASET_CHECKS
    return [options.SPEC_CHECKS, own]
