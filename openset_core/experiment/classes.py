"""Which classes of a data set a protocol means: listed, by range, by name, or drawn by a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from attrs.validators import deep_iterable, ge

from openset_core.errors import ProtocolError, did_you_mean

Classes = tuple[int, ...]
Listed = tuple[int | str, ...]  # by number or by name


@attrs.frozen(kw_only=True)
class KnownDraw:
    """Known classes drawn without replacement, the same on every machine."""

    # numbers of classes; each makes a group of trials
    counts: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(1)))
    trials: int = attrs.field(default=5, validator=ge(1))  # a group
    seed: int = attrs.field(default=0, validator=ge(0))
    classes: str = "all"  # `"all"` or ranges such as `"0-9,20"`


@attrs.frozen(kw_only=True)
class UnknownDraw:
    """Unknown classes drawn for each trial without replacement."""

    count: int = attrs.field(validator=ge(1))
    seed: int = attrs.field(default=0, validator=ge(0))
    classes: str = "all"  # `"rest"`, `"all"` or ranges


def parse_ranges(text: str, where: str) -> Classes:
    """Class numbers of a text such as `"0-4,7"`."""
    numbers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ProtocolError(
                f'{where} is {text!r}, which is neither "all", "rest" nor class numbers such as '
                '"0-4,7"'
            )
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def numbered(listed: Iterable[int | str], names: Sequence[str], where: str) -> Classes:
    positions = {name: number for number, name in enumerate(names)}
    numbers: list[int] = []
    for item in listed:
        if isinstance(item, str):
            if item not in positions:
                raise ProtocolError(
                    f"{where} names class {item!r}, which the data set does not have"
                    f"{did_you_mean(item, list(positions))}"
                )
            numbers.append(positions[item])
        elif not 0 <= item < len(names):
            raise ProtocolError(
                f"{where} names class {item}, the data set has classes 0 to {len(names) - 1}"
            )
        else:
            numbers.append(item)
    if len(set(numbers)) < len(numbers):
        raise ProtocolError(f"{where} names a class twice")
    return tuple(numbers)


def selected(text: str, names: Sequence[str], known: Classes, where: str) -> Classes:
    """Class numbers of a selection: `"all"`, `"rest"` (all that are not known) or ranges."""
    if text == "all":
        return tuple(range(len(names)))
    if text == "rest":
        return tuple(sorted(set(range(len(names))) - set(known)))
    return numbered(parse_ranges(text, where), names, where)


def drawn(pool: Classes, count: int, seed: Sequence[int], where: str) -> Classes:
    """`count` classes of a pool without replacement, in the order drawn."""
    if count > len(pool):
        raise ProtocolError(f"{where} draws {count} classes, there are {len(pool)} to draw from")
    # NumPy keeps the stream of `RandomState` the same for ever.
    order = np.random.RandomState(list(seed)).permutation(len(pool))
    return tuple(pool[int(position)] for position in order[:count])


def sample_rows(total: int, count: int, seed: Sequence[int]) -> np.ndarray[Any, Any]:
    """`count` of `total` rows without replacement, ascending; all when there are not more."""
    if count >= total:
        return np.arange(total)
    order = np.random.RandomState(list(seed)).permutation(total)
    return np.sort(order[:count])
