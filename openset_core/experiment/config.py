"""Options: attrs classes to and from TOML and `--set`, strictly, with errors that name the key.

Nothing is coerced silently: the text "false" is not True, 3.9 is not 3. An integer is
accepted where a float is asked for, because TOML writes 1 for 1.0.
"""

from __future__ import annotations

import contextlib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs

from openset_core.errors import ConfigError, did_you_mean

T = TypeVar("T")
Overrides = dict[str, dict[str, Any]]
"""Options by section: `{"m2iosr": {"gamma": 0.1}, "training": {"epochs": 5}}`."""


def parse_value(text: str) -> Any:
    """Read one option value as TOML; a bare word is a string.

    >>> parse_value("0.1"), parse_value("[1, 2]"), parse_value("kl")
    (0.1, [1, 2], 'kl')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_assignments(assignments: Iterable[str]) -> Overrides:
    """Turn `section.key=value` texts, as given to `--set`, into options by section.

    The key is what follows the last dot, so that a section may contain dots and colons
    (`timm:resnet18.a1_in1k.pretrained=true`).

    >>> parse_assignments(["training.lr=0.05", "training.epochs=3", "my-loss.way=near"])
    {'training': {'lr': 0.05, 'epochs': 3}, 'my-loss': {'way': 'near'}}
    """
    sections: Overrides = {}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        section, dot, key = target.strip().rpartition(".")
        if not (equals and dot and section and key):
            raise ConfigError(
                f"--set {assignment!r} is not of the form component.option=value, "
                "for example --set training.lr=0.05"
            )
        values = sections.setdefault(section, {})
        if key in values:
            raise ConfigError(f"--set gives {section}.{key} twice")
        values[key] = parse_value(text.strip())
    return sections


def merge(*layers: Mapping[str, Mapping[str, Any]]) -> Overrides:
    """Options by section; a later layer wins key by key.

    >>> merge({"training": {"lr": 0.1, "epochs": 5}}, {"training": {"lr": 0.2}})
    {'training': {'lr': 0.2, 'epochs': 5}}
    """
    merged: Overrides = {}
    for layer in layers:
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return merged


def type_name(annotation: Any) -> str:
    """A type as a reader of an error or a help text writes it.

    >>> type_name(tuple[float, ...]), type_name(int | None)
    ('list of float', 'int or nothing')
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(repr(value) for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(
            "nothing" if member is types.NoneType else type_name(member) for member in arguments
        )
    if origin is dict:
        return "a table"
    if origin in (tuple, list):
        if origin is list or arguments[1:] == (Ellipsis,):
            return f"list of {type_name(arguments[0])}"
        return f"list of {len(arguments)} values ({', '.join(map(type_name, arguments))})"
    if annotation is str:
        return "text"
    if annotation is bool:
        return "true or false"
    return getattr(annotation, "__name__", str(annotation))


def structure(
    values: Mapping[str, Any],
    cls: type[T],
    where: str,
    error_class: type[Exception] = ConfigError,
) -> T:
    """Build an attrs class from a mapping.

    >>> from openset_core.experiment.threshold import ThresholdChoice
    >>> structure({"acceptance": 0.9}, ThresholdChoice, "my-scorer")
    ThresholdChoice(acceptance=0.9, score=None)
    >>> structure({"acceptence": 0.9}, ThresholdChoice, "my-scorer")
    Traceback (most recent call last):
    openset_core.errors.ConfigError: my-scorer has no option 'acceptence'; did you mean acceptance?
    """
    if not isinstance(values, Mapping):
        raise error_class(f"{where} expects a table of options, not {values!r}")
    arguments: dict[str, Any] = {}
    fields = {field.name: field for field in _fields(cls)}
    hint = f"; it has {', '.join(fields)}" if fields else "; it has no options"
    problems = [
        f"{where} has no option {key!r}{did_you_mean(key, list(fields)) or hint}"
        for key in values
        if key not in fields
    ]
    for key in (key for key in values if key in fields):
        value, field = values[key], fields[key]
        try:
            arguments[key] = _structured(value, field.type, f"{where}.{key}")
            if field.validator is not None:  # alone, so that every problem is told at once
                field.validator(None, field, arguments[key])
        except ConfigError as problem:
            problems.append(str(problem))
        except (ValueError, TypeError) as problem:
            problems.append(f"{where}.{key}: {_first_line(problem)}")
    problems += [
        f"{where} lacks {name}"
        for name, field in fields.items()
        if field.default is attrs.NOTHING and name not in values
    ]
    if problems:
        raise error_class("; ".join(problems))
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as problem:
        raise error_class(f"{where}: {_first_line(problem)}") from problem


def _fields(cls: Any) -> Any:
    """The fields of an attrs class, their types resolved from text."""
    return attrs.fields(attrs.resolve_types(cls))


def _structured(value: Any, annotation: Any, where: str) -> Any:
    """A value as its annotation asks, nothing coerced but an integer to a float."""
    if isinstance(annotation, type) and attrs.has(annotation):
        return structure(value, annotation, where)
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _structured_union(value, annotation, where)
    if origin is dict and isinstance(value, Mapping):
        return {key: _structured(item, members[1], f"{where}.{key}") for key, item in value.items()}
    if origin in (tuple, list) and isinstance(value, tuple | list):
        if origin is list or members[1:] == (Ellipsis,):
            members = members[:1] * len(value)
        if len(members) == len(value):
            return origin(
                _structured(item, member, f"{where}[{index}]")
                for index, (item, member) in enumerate(zip(value, members, strict=True))
            )
    if annotation is Any or (origin is typing.Literal and value in members):
        return value
    if annotation is float and type(value) is int:
        return float(value)
    if isinstance(annotation, type) and type(value) is annotation:
        return value
    if annotation is Path and isinstance(value, str):
        return Path(value)
    raise ConfigError(f"{where} expects {type_name(annotation)}, not {value!r}")


def _structured_union(value: Any, annotation: Any, where: str) -> Any:
    members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
    if value is None and types.NoneType in typing.get_args(annotation):
        return None
    if len(members) == 1 and isinstance(value, Mapping):
        return _structured(value, members[0], where)  # its errors name the key inside
    for member in members:
        with contextlib.suppress(ConfigError):
            return _structured(value, member, where)
    raise ConfigError(f"{where} expects {type_name(annotation)}, not {value!r}")


def _first_line(problem: BaseException) -> str:
    return str(problem.args[0] if problem.args else problem).splitlines()[0]


def unstructure(config: Any) -> dict[str, Any]:
    """An attrs object as plain values that TOML can write; absent (None) options are left out.

    >>> from openset_core.experiment.threshold import ThresholdChoice
    >>> unstructure(ThresholdChoice(acceptance=0.9))
    {'acceptance': 0.9}
    """
    return {key: value for key, value in _plain(attrs.asdict(config)).items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


@attrs.frozen(kw_only=True)
class OptionInfo:
    """One option as `openset plugins show` prints it."""

    name: str
    type: str
    default: Any
    help: str
    equation: str
    choices: tuple[Any, ...]


def describe(cls: type) -> list[OptionInfo]:
    return [
        OptionInfo(
            name=field.name,
            type=type_name(field.type),
            default=field.default,
            help=field.metadata.get("help", ""),
            equation=field.metadata.get("equation", ""),
            choices=field.metadata.get("choices", ()),
        )
        for field in _fields(cls)
    ]


def read_toml(path: Path, what: str, error_class: type[Exception] = ConfigError) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error_class(f"{what} {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise error_class(f"{what} {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise error_class(f"{what} {path} is not valid TOML: {error}") from error
