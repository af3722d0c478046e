"""The component under test with its options, and how it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from openset_core.errors import OpensetError, PluginError
from openset_core.experiment import config as options_module
from openset_core.registry import Component, registry
from openset_core.testing.report import fail

UNINSTALLED = "not-installed"


@attrs.frozen
class Subject:
    """A component under test.

    Attributes:
        component: the component.
        options: its options.
    """

    component: Component
    options: Any

    @property
    def spec(self) -> Any:
        """What the component announces."""
        return self.component.spec

    @property
    def title(self) -> str:
        """Kind and name."""
        return f"{self.component.kind} {self.component.name}"

    def make(self, expected: type, *context: Any, options: Any = None) -> Any:
        """Call the factory.

        Args:
            expected: the base class of what it must build.
            *context: what the factory is told after the options.
            options: other options than the subject's.
        """
        made = self.component.load()(self.options if options is None else options, *context)
        if not isinstance(made, expected):
            fail(f"the factory built a {type(made).__name__}, not a {expected.__name__}")
        return made


def subject_of(component: Any, config: Any = None, kinds: tuple[str, ...] = ()) -> Subject:
    """Resolve what the author named.

    Args:
        component: name as in `--plugins`, a spec, or a `Component`.
        config: options by name, an object of the spec's config class, or None for defaults.
        kinds: kinds to look in.

    Raises:
        PluginError: no such component, or one of another kind.
        ConfigError: an unknown option or a value out of range.
    """
    if isinstance(component, str):
        found = registry().find(component, kinds)
    elif isinstance(component, Component):
        found = component
    else:
        found = Component(spec=component, distribution=UNINSTALLED, version="0")
    if found.kind not in kinds:
        raise PluginError(
            f"{found.name} is a {found.kind}, not a {' or '.join(kinds)}; use check_plugin"
        )
    return Subject(found, _options(found, config))


def _options(component: Component, config: Any) -> Any:
    expected = getattr(component.spec, "config", None)
    if expected is None:  # a protocol or a recipe has no options
        return None
    shape = getattr(
        component.spec, "shape", None
    )  # of a figure: its options, other than the defaults
    if config is None:
        try:
            return shape or expected()
        except Exception:
            return None  # the checks say what is wrong with the defaults
    if isinstance(config, expected):
        return config
    if not isinstance(config, Mapping):
        raise PluginError(
            f"config of {component.name} must be a mapping or a {expected.__name__}, not {config!r}"
        )
    values = {**(options_module.unstructure(shape) if shape else {}), **config}
    return options_module.structure(values, expected, component.name)


def refusal(error: BaseException) -> str:
    """The sentence of a refusal.

    Only an `OpensetError` of one line is one; everything else goes on as the crash it is.
    """
    if not isinstance(error, OpensetError):
        raise error
    text = str(error)
    if not text or "\n" in text:
        fail(f"it refused with {text!r}, which is not one sentence")
    return text
