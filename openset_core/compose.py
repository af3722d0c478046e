"""Choosing the parts of an experiment, and whether they fit: known before anything is built."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import attrs

from openset_core.errors import CompositionError
from openset_core.plugins import Part, Registry, registry


@attrs.frozen(kw_only=True)
class Selection:
    """The parts of one experiment."""

    loss: Part
    backbone: Part
    generator: Part | None = None
    scorers: tuple[Part, ...] = ()
    observers: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, the loss first."""
        generator = (self.generator,) if self.generator else ()
        return (self.loss, self.backbone, *generator, *self.scorers, *self.observers)

    @property
    def names(self) -> list[str]:
        """What `--plugins` would have to say for this choice."""
        return [part.reference for part in self.parts]


@attrs.frozen(kw_only=True)
class Defaults:
    """Parts that a protocol proposes for what the user leaves out."""

    loss: str | None = None
    backbone: str | None = None
    scorers: tuple[str, ...] = ()


FRAMEWORK_PROVIDES = frozenset({"images", "labels"})
"""What a part may need that no partner has to bring."""


@attrs.frozen
class PartsByKind:
    """Chosen parts, sorted by kind."""

    by_kind: dict[str, list[Part]]

    def one(self, kind: str) -> Part | None:
        """The only part of a kind, or None.

        Raises:
            CompositionError: more than one was chosen.
        """
        parts = self.by_kind.get(kind, [])
        if len(parts) > 1:
            names = " and ".join(part.name for part in parts)
            raise CompositionError(
                f"{names} are {len(parts)} parts of kind {kind}, an experiment takes one; "
                "leave out all but one"
            )
        return parts[0] if parts else None

    def all(self, kind: str) -> list[Part]:
        """Every part of a kind, in the order given."""
        return self.by_kind.get(kind, [])


def sort_by_kind(parts: Iterable[Part]) -> PartsByKind:
    """Sort parts by kind; naming the same part twice counts once."""
    by_kind: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        if part not in by_kind[part.kind]:
            by_kind[part.kind].append(part)
    return PartsByKind(dict(by_kind))


def check_fit(selection: Selection) -> None:
    """Compare what every part needs with what its partners provide.

    Raises:
        CompositionError: naming the part, the missing thing and who could have brought it; or
            naming two parts whose options could not be told apart.
    """
    by_name: dict[str, Part] = {}
    for part in selection.parts:
        other = by_name.setdefault(part.name, part)
        if other is not part and (
            other.kind == part.kind or other.spec.config is not part.spec.config
        ):
            raise CompositionError(
                f"{other.qualified} and {part.qualified} share a name, so that their options and "
                "results could not be told apart; use one of them at a time"
            )
    for part in selection.parts:
        partners = [other for other in selection.parts if other is not part]
        provided = FRAMEWORK_PROVIDES.union(*(other.spec.provides for other in partners))
        missing = [need for need in part.spec.needs if need not in provided]
        if missing:
            structure = [p.name for p in (selection.loss, selection.backbone) if p is not part]
            raise CompositionError(
                f"{part.kind} {part.name} needs {' and '.join(missing)}, which "
                f"{' and '.join(structure)} {'does' if len(structure) == 1 else 'do'} not provide; "
                "`openset plugins show NAME` tells what each part provides"
            )


LABEL_SMOOTHING = "label smoothing"
"""What a loss provides whose cross entropy follows `LossContext.label_smoothing`."""


def check_label_smoothing(selection: Selection, share: float) -> None:
    """Refuse label smoothing with a loss that would train without it.

    Raises:
        CompositionError: naming the loss.
    """
    loss = selection.loss
    if share > 0 and LABEL_SMOOTHING not in loss.spec.provides:
        raise CompositionError(
            f"training.label_smoothing={share} has no effect on loss {loss.name}, which does not "
            f"provide {LABEL_SMOOTHING}; set it to 0, or choose a loss that does"
        )


def _default(plugins: Registry, kind: str, name: str | None) -> Part:
    if name is None:
        installed = ", ".join(part.name for part in plugins.of_kind(kind)) or "none installed"
        raise CompositionError(
            f"no {kind} was chosen and nothing proposes one; name one in --plugins ({installed})"
        )
    return plugins.find(name, (kind,))


def split_names(names: str | Sequence[str]) -> list[str]:
    """`"a, b"` or `["a", "b"]` as a list of names."""
    items = names.split(",") if isinstance(names, str) else list(names)
    return [item.strip() for item in items if item.strip()]


def select(
    names: str | Sequence[str],
    defaults: Defaults,
    plugins: Registry | None = None,
    scorers: Sequence[str] = (),
) -> Selection:
    """Resolve `--plugins` into one loss, one backbone, and what goes with them.

    Args:
        names: part names of any kind, in any order.
        defaults: what fills the gaps; a loss's own default scorers and backbone come first.
        plugins: where to look.
        scorers: score rules that come before the loss's own, where `names` has none.

    Raises:
        PluginError: an unknown or ambiguous name.
        CompositionError: two parts where one is wanted, or parts that do not fit.
    """
    plugins = plugins or registry()
    chosen = sort_by_kind([plugins.find(name) for name in split_names(names)])
    loss = chosen.one("loss") or _default(plugins, "loss", defaults.loss)
    backbone = chosen.one("backbone") or _default(
        plugins, "backbone", loss.spec.default_backbone or defaults.backbone
    )
    rules = scorers or loss.spec.default_scorers or defaults.scorers
    scored_by = chosen.all("scorer") or [plugins.find(name, ("scorer",)) for name in rules]
    if not scored_by:
        _default(plugins, "scorer", None)
    selection = Selection(
        loss=loss,
        backbone=backbone,
        generator=chosen.one("generator"),
        scorers=tuple(scored_by),
        observers=tuple(chosen.all("observer")),
    )
    check_fit(selection)
    return selection
