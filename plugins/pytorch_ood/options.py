"""Options made from a constructor's signature and docstring.

The classes are attributes of this module, made when they are asked for, so that a configuration
can be pickled like any other: `options.KNN` are the options of `pytorch-ood:KNN`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from attrs import frozen

from openset_core import option
from openset_plugins.pytorch_ood import library, tables

SIMPLE = (bool, int, float, str)
# Arguments that are ours to give, or that take no plain value.
GIVEN = frozenset(
    {"encoder", "model", "backbone", "head", "detector", "w", "b"}  # detectors
    | {"n_classes", "n_dim", "n_embedding", "reduction", "center"}  # losses
)


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return of(name)


@cache
def of(name: str) -> type:
    """The options of a detector or a loss that serves here."""
    if name in tables.DETECTORS:
        made = dict(_arguments(name, library.classes("detector")[name]))
    elif name in tables.LOSSES:
        loss = tables.LOSSES[name]
        made = dict(_arguments(name, library.classes("loss")[name]))
        made = {key: value for key, value in made.items() if key not in loss.without}
        made.update(_extra(loss))
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    body: dict[str, Any] = {key: field for key, (_type, field) in made.items()}
    body["__annotations__"] = {key: annotation for key, (annotation, _field) in made.items()}
    body["__doc__"] = f"Options of `pytorch-ood:{name}`, from the library's signature."
    body["__module__"] = __name__
    return frozen(kw_only=True)(type(name, (), body))


def _extra(loss: tables.Loss) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Options of our own head around a loss."""
    if loss.head == "OnEmbedding":
        text = "length of the embedding, a linear layer with normalised dimensions"
        yield "latent_dim", (int, option(32, text, validator=_positive))
    elif loss.head in ("WithCrossEntropy", "OnCentres"):
        text = "length of a linear latent layer, the embedding; nothing for none"
        yield "latent_dim", (int | None, option(None, text, validator=_positive))
    if loss.head == "WithCrossEntropy":
        text = "weight of the loss beside the cross entropy of a linear classifier"
        yield "weight", (float, option(1.0, text))


def _positive(_instance: Any, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be at least 1: {value}")


def _arguments(name: str, cls: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Name, type and field of every constructor argument that takes a plain value."""
    docstring = inspect.getdoc(cls.__init__) or ""
    helps = dict(
        re.findall(r"^:param (\w+):(.*?)(?=^:|\Z)", docstring, flags=re.MULTILINE | re.DOTALL)
    )
    hints = typing.get_type_hints(cls.__init__)
    for key, parameter in inspect.signature(cls).parameters.items():
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if key in GIVEN or parameter.kind in variable:
            continue
        default, text = parameter.default, plain_text(helps.get(key, "see pytorch-ood"))
        if (name, key) in tables.DEFAULTS:
            default, text = tables.DEFAULTS[name, key]
        annotation = plain_type(hints.get(key), default)
        if annotation is None or default is inspect.Parameter.empty:
            raise TypeError(f"argument {key} of pytorch-ood's {name} takes no plain value")
        if annotation is float:
            default = float(default)
        yield key, (annotation, option(default, text))


def plain_type(annotation: Any, default: Any) -> Any:
    """The option's type, or None for an argument that takes no plain value.

    >>> plain_type(float, 1), plain_type(None, 0.5), plain_type(int | None, None)
    (<class 'float'>, <class 'float'>, int | None)
    """
    if annotation is None:
        annotation = type(default)
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation if annotation in SIMPLE else None
    members = set(typing.get_args(annotation))
    plain = [member for member in members if member in SIMPLE]
    if len(plain) != 1 or members - {plain[0], types.NoneType}:
        return None
    return plain[0] if default is not None else plain[0] | None


def plain_text(text: str) -> str:
    r"""reStructuredText as one plain line.

    >>> plain_text("exponent :math:`\\gamma`,\n  see :class:`KNN <pytorch_ood.detector.KNN>`.")
    'exponent gamma, see KNN'
    """
    text = re.sub(r":\w+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`", r"\1", text)
    text = text.replace("``", "").replace("`", "").replace("\\", "")
    return " ".join(text.split()).rstrip(".")
