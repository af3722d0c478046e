"""Do the chosen parts fit together? Found out before anything is built."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import attrs

from openset_core.errors import CompositionError
from openset_core.plugins import Part, Selection

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
