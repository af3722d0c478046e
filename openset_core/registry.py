"""Discovery of plugins and resolution of names.

pluggy's own entry-point loader stops at the first broken plugin and silently drops the
second of two distributions that offer one name, so plugins are loaded here one by one:
each failure is kept with the plugin's distribution and reason, and harms nobody who does
not ask for that plugin.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import attrs
import pluggy

from openset_core import hookspecs, specs
from openset_core.errors import PluginError, did_you_mean

GROUP = "openset"
DISABLE_VARIABLE = "OPENSET_DISABLE_PLUGINS"
COMPONENT_KINDS = ("backbone", "loss", "scorer", "generator", "observer")
HOOK_KINDS: dict[str, tuple[type, ...]] = {
    "openset_backbones": (specs.BackboneSpec, specs.FamilySpec),
    "openset_representation_losses": (specs.RepresentationLossSpec, specs.FamilySpec),
    "openset_unknown_scorers": (specs.UnknownScorerSpec, specs.FamilySpec),
    "openset_sample_generators": (specs.SampleGeneratorSpec, specs.FamilySpec),
    "openset_datasets": (specs.DatasetSpec,),
    "openset_protocols": (specs.ProtocolSpec,),
    "openset_recipes": (specs.RecipeSpec,),
    "openset_observers": (specs.ObserverSpec,),
    "openset_figures": (specs.FigureSpec,),
}


@attrs.frozen(kw_only=True)
class Component:
    """A spec together with where it comes from."""

    spec: Any
    distribution: str
    version: str
    # How the user named the component, where the bare name would not do.
    asked: str = attrs.field(default="", eq=False)

    @property
    def kind(self) -> str:
        """Kind of the component; a family has the kind of its members."""
        return self.spec.of if isinstance(self.spec, specs.FamilySpec) else self.spec.kind

    @property
    def name(self) -> str:
        return str(self.spec.name)

    @property
    def reference(self) -> str:
        """The name to write down, so that the same component is found again."""
        return self.asked or self.name

    @property
    def qualified(self) -> str:
        return f"{self.distribution}/{self.kind}:{self.name}"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name} of {self.distribution} {self.version}"

    def load(self) -> Any:
        try:
            return specs.load_factory(self.spec.factory)
        except Exception as error:
            raise PluginError(f"{self.title} fails to load: {_reason(error)}") from error


@attrs.frozen
class BrokenPlugin:
    entry_point: str
    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.entry_point} of {self.distribution} {self.version}: {self.reason}"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


class Registry:
    """Every component that the installed plugins announce."""

    def __init__(self, entry_points: Iterable[Any] | None = None) -> None:
        self.components: list[Component] = []
        self.broken: list[BrokenPlugin] = []
        self._manager = pluggy.PluginManager("openset")
        self._manager.add_hookspecs(hookspecs)
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=GROUP)
        disabled = {
            name for name in re.split(r"[\s,]+", os.environ.get(DISABLE_VARIABLE, "")) if name
        }
        origins: dict[int, tuple[str, str]] = {id(None): ("unknown", "?")}
        for entry_point in sorted(entry_points, key=lambda item: item.name):
            dist = entry_point.dist
            if id(dist) not in origins:  # each look at a distribution parses its metadata
                origins[id(dist)] = (dist.name, dist.version)
            distribution, version = origins[id(dist)]
            if distribution in disabled or entry_point.name in disabled:
                continue
            self._load(entry_point, distribution, version)

    def _load(self, entry_point: Any, distribution: str, version: str) -> None:
        try:
            components = self._announced(entry_point, distribution, version)
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, PluginError) else _reason(error)
            self.broken.append(BrokenPlugin(entry_point.name, distribution, version, reason))
        else:
            self.components += [item for item in components if item not in self.components]

    def _announced(self, entry_point: Any, distribution: str, version: str) -> list[Component]:
        module = entry_point.load()
        if self._manager.is_registered(module):  # two entry points may name one module
            return []
        self._manager.register(module, name=f"{distribution}:{entry_point.name}")
        try:
            return [
                Component(spec=spec, distribution=distribution, version=version)
                for spec in self._call_hooks(module)
            ]
        except Exception:
            self._manager.unregister(module)
            raise

    def _call_hooks(self, module: Any) -> Iterable[Any]:
        callers = {caller.name for caller in self._manager.get_hookcallers(module) or []}
        for hook in sorted(callers - HOOK_KINDS.keys()):
            raise PluginError(
                f"implements {hook}{did_you_mean(hook, HOOK_KINDS)}, which is no hook"
            )
        for hook in sorted(callers):
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            (implementation,) = (item for item in implementations if item.plugin is module)
            announced = implementation.function()
            if not isinstance(announced, list | tuple):
                raise PluginError(f"{hook} must return a list of specs, not {announced!r}")
            for spec in announced:
                if not issubclass(type(spec), HOOK_KINDS[hook]):
                    names = " or ".join(cls.__name__ for cls in HOOK_KINDS[hook])
                    raise PluginError(f"{hook} must return {names} objects, not {spec!r}")
                _check_contents(spec)
                yield spec

    def extended(self, *components: Component) -> Registry:
        """A copy of this registry with more components, for one run in this process."""
        wider = copy.copy(self)
        wider.components = [*self.components, *components]
        return wider

    def of_kind(self, kind: str) -> list[Component]:
        """Components of one kind, by name; families last."""
        return sorted(
            (component for component in self.components if component.kind == kind),
            key=lambda component: (isinstance(component.spec, specs.FamilySpec), component.name),
        )

    def find(self, name: str, kinds: Sequence[str] = COMPONENT_KINDS) -> Component:
        """The one component that a user's name means.

        It is `name`, `kind:name`, `distribution/kind:name`, or a family's `prefix:NAME`, with or
        without the kind before it.

        >>> registry().find("digits", ("protocol",)).qualified
        'openset/protocol:digits'
        """
        distribution, bare, wanted = _split_name(name, kinds)
        matches: list[Component] = []
        refusals: list[PluginError] = []
        for component in self.components:
            if component.kind not in wanted or distribution not in (None, component.distribution):
                continue
            if not isinstance(component.spec, specs.FamilySpec):
                if component.name == bare:
                    matches.append(component)
            elif bare.startswith(f"{component.spec.prefix}:"):  # several may share a prefix
                try:
                    matches.append(_resolve_family(component, bare.partition(":")[2]))
                except PluginError as error:
                    refusals.append(error)
        if len(matches) == 1:
            return attrs.evolve(matches[0], asked="" if bare == name else name)
        if refusals and not matches:
            raise PluginError("; ".join(dict.fromkeys(map(str, refusals)))) from refusals[0]
        if not matches:
            raise PluginError(self._unknown(name, bare, wanted))
        raise PluginError(_ambiguous(name, matches))

    def _unknown(self, name: str, bare: str, kinds: Sequence[str]) -> str:
        installed = sorted({item.name for item in self.components if item.kind in kinds})
        for broken in self.broken:
            if {bare, bare.partition(":")[0]} & {broken.entry_point, broken.distribution}:
                return f"{name} is not available: {broken}"
        what = kinds[0] if len(kinds) == 1 else "component"
        message = f"no {what} is called {name!r}{did_you_mean(bare, installed)}"
        message += f"; installed: {', '.join(installed) or 'none'}"
        if self.broken:
            failed = ", ".join(f"{item.entry_point} of {item.distribution}" for item in self.broken)
            message += f" (failed to load: {failed}; see `openset plugins`)"
        return message


def _resolve_family(family: Component, member: str) -> Component:
    title = f"{family.spec.prefix}:{member} of {family.distribution} {family.version}"
    try:
        spec = specs.load_factory(family.spec.resolve)(member)
        if not isinstance(spec, specs.ComponentSpec) or spec.kind != family.kind:
            raise PluginError(f"{title} must be the spec of a {family.kind}, not {spec!r}")
        _check_contents(spec)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"{title} fails to load: {_reason(error)}") from error
    return attrs.evolve(family, spec=spec)


def _split_name(name: str, kinds: Sequence[str]) -> tuple[str | None, str, Sequence[str]]:
    distribution: str | None = None
    head, slash, rest = name.partition("/")
    if slash and ":" not in head:  # a colon before the slash belongs to a family's member
        distribution, name = head, rest
    kind, colon, rest = name.partition(":")
    if colon and kind in kinds:
        return distribution, rest, (kind,)
    return distribution, name, kinds


def _ambiguous(name: str, matches: list[Component]) -> str:
    if len({component.distribution for component in matches}) == 1:
        if len({component.kind for component in matches}) < len(matches):
            first = matches[0]
            return (
                f"{first.distribution} {first.version} offers {name!r} {len(matches)} times; "
                "disable one of its plugins or tell its author"
            )
        choices = " or ".join(f"{component.kind}:{component.name}" for component in matches)
        return f"{name!r} names several components; write {choices}"
    owners = " and ".join(f"{component.distribution} {component.version}" for component in matches)
    choices = " or ".join(component.qualified for component in matches)
    return f"{owners} both offer {name!r}; write {choices}"


def _check_contents(spec: Any) -> None:
    if spec.api != specs.HOOK_API:
        advice = (
            "upgrade openset, or install an older version of the plugin"
            if spec.api > specs.HOOK_API
            else "install a newer version of the plugin, or an older openset"
        )
        raise PluginError(
            f"{spec.name} was written for hook API {spec.api}, this openset has "
            f"{specs.HOOK_API}; {advice}"
        )
    if not isinstance(spec, specs.ComponentSpec | specs.FigureSpec):
        return
    if not attrs.has(spec.config):
        raise PluginError(f"the config of {spec.name} must be an attrs class, not {spec.config!r}")
    required = [f.name for f in attrs.fields(spec.config) if f.default is attrs.NOTHING]
    if required:
        raise PluginError(f"options of {spec.name} without a default: {', '.join(required)}")
    attrs.resolve_types(spec.config)  # names in annotations that do not exist fail here


@cache
def registry() -> Registry:
    """The installed plugins, loaded once a process.

    >>> "digits" in [component.name for component in registry().of_kind("dataset")]
    True
    """
    return Registry()
