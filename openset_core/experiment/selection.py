"""The components of an experiment, and whether they fit: known before anything is built."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs

from openset_core.errors import CompositionError
from openset_core.registry import Component, Registry, registry


@attrs.frozen(kw_only=True)
class Selection:
    loss: Component
    backbone: Component
    generator: Component | None = None
    scorers: tuple[Component, ...] = ()
    observers: tuple[Component, ...] = ()

    @property
    def components(self) -> tuple[Component, ...]:
        return (*self.trained, *self.scorers, *self.observers)

    @property
    def trained(self) -> tuple[Component, ...]:
        """What decides the trained weights."""
        return tuple(item for item in (self.loss, self.backbone, self.generator) if item)

    @property
    def names(self) -> list[str]:
        """What `--plugins` would have to say for this choice."""
        return [component.reference for component in self.components]


@attrs.frozen(kw_only=True)
class Defaults:
    """Components that a protocol proposes for what the user leaves out."""

    loss: str | None = None
    backbone: str | None = None
    scorers: tuple[str, ...] = ()


# What a component may need that no partner has to bring.
FRAMEWORK_PROVIDES = frozenset({"images", "labels"})
# What a loss provides whose cross entropy follows `LossContext.label_smoothing`.
LABEL_SMOOTHING = "label smoothing"


def _only(kind: str, by_kind: Mapping[str, list[Component]]) -> Component | None:
    components = by_kind[kind]
    if len(components) > 1:
        names = " and ".join(component.name for component in components)
        raise CompositionError(
            f"{names} are {len(components)} components of kind {kind}, an "
            "experiment takes one; leave out all but one"
        )
    return components[0] if components else None


def check_fit(selection: Selection) -> None:
    """Compare what every component needs with what its partners provide."""
    by_name: dict[str, Component] = {}
    for component in selection.components:
        other = by_name.setdefault(component.name, component)
        if other is not component and (
            other.kind == component.kind or other.spec.config is not component.spec.config
        ):
            raise CompositionError(
                f"{other.qualified} and {component.qualified} share a name, so that their options "
                "and results could not be told apart; use one of them at a time"
            )
    for component in selection.components:
        partners = [other for other in selection.components if other is not component]
        provided = FRAMEWORK_PROVIDES.union(*(other.spec.provides for other in partners))
        missing = [need for need in component.spec.needs if need not in provided]
        if missing:
            structure = [p.name for p in (selection.loss, selection.backbone) if p is not component]
            raise CompositionError(
                f"{component.kind} {component.name} needs {' and '.join(missing)}, which "
                f"{' and '.join(structure)} {'does' if len(structure) == 1 else 'do'} not provide; "
                "`openset plugins show NAME` tells what each one provides"
            )


def check_label_smoothing(selection: Selection, share: float) -> None:
    """Refuse label smoothing with a loss that would train without it."""
    loss = selection.loss
    if share > 0 and LABEL_SMOOTHING not in loss.spec.provides:
        raise CompositionError(
            f"training.label_smoothing={share} has no effect on loss {loss.name}, which does not "
            f"provide {LABEL_SMOOTHING}; set it to 0, or choose a loss that does"
        )


def _default(plugins: Registry, kind: str, name: str | None) -> Component:
    if name is None:
        installed = ", ".join(item.name for item in plugins.of_kind(kind)) or "none installed"
        raise CompositionError(
            f"no {kind} was chosen and nothing proposes one; name one in --plugins ({installed})"
        )
    return plugins.find(name, (kind,))


def split_names(names: str | Sequence[str]) -> list[str]:
    """A list of names, also from one text.

    >>> split_names("my-loss, my-backbone"), split_names(["my-scorer"])
    (['my-loss', 'my-backbone'], ['my-scorer'])
    """
    items = names.split(",") if isinstance(names, str) else list(names)
    return [item.strip() for item in items if item.strip()]


def select(
    names: str | Sequence[str],
    defaults: Defaults,
    plugins: Registry | None = None,
    scorers: Sequence[str] = (),
) -> Selection:
    """Resolve `--plugins`; gaps are filled by the loss's own choices before `defaults`."""
    plugins = plugins or registry()
    by_kind: dict[str, list[Component]] = defaultdict(list)
    for name in split_names(names):
        component = plugins.find(name)
        if component not in by_kind[component.kind]:
            by_kind[component.kind].append(component)
    loss = _only("loss", by_kind) or _default(plugins, "loss", defaults.loss)
    backbone = _only("backbone", by_kind) or _default(
        plugins, "backbone", loss.spec.default_backbone or defaults.backbone
    )
    rules = scorers or loss.spec.default_scorers or defaults.scorers
    scored_by = by_kind["scorer"] or [plugins.find(name, ("scorer",)) for name in rules]
    if not scored_by:
        _default(plugins, "scorer", None)
    selection = Selection(
        loss=loss,
        backbone=backbone,
        generator=_only("generator", by_kind),
        scorers=tuple(scored_by),
        observers=tuple(by_kind["observer"]),
    )
    check_fit(selection)
    return selection
