"""The component under test with its options, and how it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from openset_core.errors import OpensetError, PluginError
from openset_core.experiment import config as options_module
from openset_core.registry import Component, registry
from openset_core.testing.report import fail

Built = TypeVar("Built")


@attrs.frozen
class ComponentUnderTest:
    """A component with the options that it is checked with."""

    component: Component
    options: Any  # None where the defaults are refused, or where there are no options

    @property
    def spec(self) -> Any:
        return self.component.spec

    @property
    def kind(self) -> str:
        return self.component.kind

    @property
    def title(self) -> str:
        return f"{self.kind} {self.component.name}"

    def make(self, expected: type[Built], *context: Any) -> Built:
        """Call the factory with the options and a context; it must build an `expected`."""
        made = self.component.load()(self.options, *context)
        if not isinstance(made, expected):
            fail(f"the factory built a {type(made).__name__}, not a {expected.__name__}")
        return made


def resolve(component: Any, config: Any, kinds: tuple[str, ...]) -> ComponentUnderTest:
    """The component that the author named; see `openset_core.testing.checks`."""
    if isinstance(component, str):
        component = registry().find(component, kinds)
    elif not isinstance(component, Component):
        component = Component(spec=component, distribution="not-installed", version="0")
    if component.kind not in kinds:
        raise PluginError(
            f"{component.name} is a {component.kind}, not a {' or '.join(kinds)}; use check_plugin"
        )
    return ComponentUnderTest(component, _options(component, config))


def _options(component: Component, config: Any) -> Any:
    expected = getattr(component.spec, "config", None)
    if expected is None:  # a protocol or a recipe has no options
        return None
    defaults = getattr(component.spec, "shape", None)  # a figure's own, in place of the class's
    if config is None:
        try:
            return defaults or expected()
        except Exception:
            return None  # the checks say what is wrong with the defaults
    if isinstance(config, expected):
        return config
    if not isinstance(config, Mapping):
        raise PluginError(
            f"config of {component.name} must be a mapping or a {expected.__name__}, not {config!r}"
        )
    values = {**(options_module.unstructure(defaults) if defaults else {}), **config}
    return options_module.structure(values, expected, component.name)


def check_refusal(error: BaseException) -> None:
    """Accept an `OpensetError` of one sentence; everything else is raised as the crash it is."""
    if not isinstance(error, OpensetError):
        raise error
    if not str(error) or "\n" in str(error):
        fail(f"it refused with {str(error)!r}, which is not one sentence")
