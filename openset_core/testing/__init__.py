"""The conformance kit: does a plugin keep the contracts that other components rely on?

    from openset_core import testing

    testing.check_representation_loss("my-loss")             # raises at the first broken contract
    print(testing.check_plugin("my-loss", raises=False))     # runs all checks, reports all

or, with one test a check:

    @pytest.mark.parametrize("check", testing.checks("my-loss"), ids=str)
    def test_conformance(check):
        check()

The checks build the component with small stubs of the others on a CPU and take seconds. They say
nothing of whether a method is any good; they say that it can be mixed with every other component.
"""

from __future__ import annotations

import importlib
from typing import Any

from openset_core.testing.component_under_test import ComponentUnderTest, resolve
from openset_core.testing.report import (
    BoundCheck,
    CheckResult,
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

MODULES = {
    "backbone": ("options", "backbones", "networks"),
    "loss": ("options", "losses", "networks"),
    "scorer": ("options", "scorers"),
    "generator": ("options", "generators", "networks"),
    "observer": ("options", "misc_checks"),
    "dataset": ("options", "misc_checks"),
    "protocol": ("misc_checks",),
    "recipe": ("misc_checks",),
    "figure": ("options", "misc_checks"),
}
"""Where the checks of each kind are; a module is imported when its kind is checked."""


def checks(component: Any, config: Any = None) -> list[BoundCheck]:
    """The checks of a component of any kind, for a test runner to call one by one.

    Args:
        component: name as in `--plugins` (a family's `prefix:NAME` too), a spec, or a `Component`.
        config: options by name, an object of the spec's config class, or None for defaults.

    Returns:
        Callables; `str()` of one is its name. Each raises `ConformanceError`, or
        `unittest.SkipTest` where it does not apply.

    Raises:
        PluginError: no such component.
        ConfigError: an unknown option or a value out of range.
    """
    return _bound(resolve(component, config, tuple(MODULES)))


def check_plugin(component: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a component of any kind; see `checks` for the arguments.

    Args:
        component: what to check.
        config: its options.
        raises: raise the first failure; with False all checks run and the report tells.

    Raises:
        ConformanceError: a contract is broken, and `raises`.
        PluginError: no such component.
        ConfigError: an unknown option or a value out of range.
    """
    return _run(component, config, raises, tuple(MODULES))


def check_backbone(component: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a backbone; see `check_plugin`."""
    return _run(component, config, raises, ("backbone",))


def check_representation_loss(component: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a representation loss; see `check_plugin`."""
    return _run(component, config, raises, ("loss",))


def check_unknown_scorer(component: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check an unknown scorer; see `check_plugin`."""
    return _run(component, config, raises, ("scorer",))


def check_sample_generator(component: Any, config: Any = None, *, raises: bool = True) -> Report:
    """Check a sample generator; see `check_plugin`."""
    return _run(component, config, raises, ("generator",))


def _run(component: Any, config: Any, raises: bool, kinds: tuple[str, ...]) -> Report:
    under_test = resolve(component, config, kinds)
    return run_checks(under_test.title, _bound(under_test), raises)


def _bound(component: ComponentUnderTest) -> list[BoundCheck]:
    bound = [
        BoundCheck(check, component)
        for name in MODULES[component.kind]
        for check in importlib.import_module(f"{__name__}.{name}").CHECKS.of(component.kind)
    ]
    if component.options is None and "options" in MODULES[component.kind]:  # nothing can be built
        return [item for item in bound if str(item) == "options-have-defaults"]
    return bound
