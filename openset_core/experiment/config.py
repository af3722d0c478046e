"""Options: attrs classes to and from TOML and `--set`, strictly, with errors that name the key.

Nothing is coerced silently: the text "false" is not True, 3.9 is not 3. An integer is
accepted where a float is asked for, because TOML writes 1 for 1.0.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs

from openset_core.errors import ConfigError, did_you_mean

T = TypeVar("T")
Overrides = dict[str, dict[str, Any]]
"""Options by section: `{"m2iosr": {"gamma": 0.1}, "training": {"epochs": 5}}`."""


# --- values from text -----------------------------------------------------------------


def parse_value(text: str) -> Any:
    """Read one option value as TOML; a bare word is a string.

    >>> parse_value("0.1"), parse_value("[1, 2]"), parse_value("kl")
    (0.1, [1, 2], 'kl')
    """
    import tomllib

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
                f"--set {assignment!r} is not of the form part.option=value, "
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


# --- attrs classes from mappings --------------------------------------------------------


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
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {type_name(arguments[0])}"
        return f"list of {len(arguments)} values ({', '.join(map(type_name, arguments))})"
    if annotation is str:
        return "text"
    if annotation is bool:
        return "true or false"
    return getattr(annotation, "__name__", str(annotation))


class _WrongType(ValueError):
    """A value of the wrong type; carries the sentence."""


def _primitive_hook(expected: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _annotation: Any) -> Any:
        if expected is float and type(value) is int:
            return float(value)
        if type(value) is not expected:
            raise _WrongType(f"expects {type_name(expected)}, not {value!r}")
        return value

    return structure


@cache
def _converter() -> Any:
    import cattrs

    converter = cattrs.Converter(forbid_extra_keys=True)
    for primitive in (bool, int, float, str):
        converter.register_structure_hook(primitive, _primitive_hook(primitive))

    def is_tuple(annotation: Any) -> bool:
        return typing.get_origin(annotation) is tuple

    def structure_tuple(value: Any, annotation: Any) -> Any:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _WrongType(f"expects {type_name(annotation)}, not {value!r}")
        members = typing.get_args(annotation)
        if len(members) == 2 and members[1] is Ellipsis:
            members = (members[0],) * len(value)
        elif len(members) != len(value):
            raise _WrongType(f"expects {type_name(annotation)}, not {value!r}")
        return tuple(
            converter.structure(item, member) for item, member in zip(value, members, strict=True)
        )

    converter.register_structure_hook_func(is_tuple, structure_tuple)

    def is_table(annotation: Any) -> bool:
        return typing.get_origin(annotation) is dict

    def structure_table(value: Any, annotation: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _WrongType(f"expects {type_name(annotation)}, not {value!r}")
        member = typing.get_args(annotation)[1]
        return {key: converter.structure(item, member) for key, item in value.items()}

    converter.register_structure_hook_func(is_table, structure_table)

    def is_union(annotation: Any) -> bool:
        return typing.get_origin(annotation) in (types.UnionType, typing.Union)

    def structure_union(value: Any, annotation: Any) -> Any:
        members = typing.get_args(annotation)
        if value is None and types.NoneType in members:
            return None
        for member in members:
            if member is not types.NoneType:
                try:
                    return converter.structure(value, member)
                except Exception:  # the next member may accept the value
                    continue
        raise _WrongType(f"expects {type_name(annotation)}, not {value!r}")

    converter.register_structure_hook_func(is_union, structure_union)
    return converter


def structure(
    values: Mapping[str, Any],
    cls: type[T],
    where: str,
    error_class: type[Exception] = ConfigError,
) -> T:
    """Build an attrs class from a mapping.

    Args:
        values: option values, for example from TOML.
        cls: an attrs class.
        where: what the values belong to, for error messages (`"m2iosr"`).
        error_class: what to raise.

    Raises:
        ConfigError: (or `error_class`) naming every unknown key, wrong type and value
            out of range.

    >>> from openset_core.experiment.threshold import ThresholdChoice
    >>> structure({"acceptance": 0.9}, ThresholdChoice, "my-scorer")
    ThresholdChoice(acceptance=0.9, score=None)
    >>> structure({"acceptence": 0.9}, ThresholdChoice, "my-scorer")
    Traceback (most recent call last):
    openset_core.errors.ConfigError: my-scorer has no option 'acceptence'; did you mean acceptance?
    """
    if not isinstance(values, Mapping):
        raise error_class(f"{where} expects a table of options, not {values!r}")
    problems = _unknown_keys(values, cls, where)
    arguments: dict[str, Any] = {}
    fields = {field.name: field for field in _fields(cls)}
    for key, value in values.items():
        if key not in fields:
            continue
        try:
            arguments[key] = _structure_field(value, fields[key].type, f"{where}.{key}")
            _validate(fields[key], arguments[key])
        except _WrongType as problem:
            problems.append(f"{where}.{key} {problem}")
        except (ConfigError, error_class) as problem:
            problems.append(str(problem))
        except Exception as problem:
            problems.append(f"{where}.{key}: {_sentence(problem, value)}")
    missing = [
        name
        for name, field in fields.items()
        if field.default is attrs.NOTHING and name not in values
    ]
    problems += [f"{where} lacks {name}" for name in missing]
    if problems:
        raise error_class("; ".join(problems))
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as problem:
        raise error_class(f"{where}: {_sentence(problem, values)}") from problem


def _fields(cls: Any) -> Any:
    """The fields of an attrs class, their types resolved from text."""
    return attrs.fields(attrs.resolve_types(cls))


def _unknown_keys(values: Mapping[str, Any], cls: type, where: str) -> list[str]:
    known = [field.name for field in _fields(cls)]
    hint = f"; it has {', '.join(known)}" if known else "; it has no options"
    return [
        f"{where} has no option {key!r}{did_you_mean(key, known) or hint}"
        for key in values
        if key not in known
    ]


def _structure_field(value: Any, annotation: Any, where: str) -> Any:
    """Nested attrs classes are walked here, so that their errors name the whole path."""
    if isinstance(annotation, type) and attrs.has(annotation):
        return structure(value, annotation, where)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union) and isinstance(value, Mapping):
        tables = [option for option in arguments if attrs.has(option)]
        if len(tables) == 1:
            return structure(value, tables[0], where)
    member = arguments[-1] if origin is dict else arguments[0] if origin is tuple else None
    if isinstance(member, type) and attrs.has(member):
        if origin is dict and isinstance(value, Mapping):
            return {key: structure(item, member, f"{where}.{key}") for key, item in value.items()}
        if origin is tuple and isinstance(value, list):
            return tuple(
                structure(item, member, f"{where}[{index}]") for index, item in enumerate(value)
            )
    return _converter().structure(value, annotation)


def _validate(field: Any, value: Any) -> None:
    """Run one field's validator alone, so that every problem is reported at once."""
    if field.validator is not None:
        field.validator(None, field, value)


def _sentence(problem: BaseException, value: Any) -> str:
    """The readable part of an attrs validator's or cattrs's error."""
    leaves: Any = problem
    while isinstance(leaves, BaseExceptionGroup):
        leaves = leaves.exceptions[0]
    if isinstance(leaves, _WrongType):
        return str(leaves)
    text = leaves.args[0] if leaves.args else str(leaves)
    return str(text).splitlines()[0] if text else f"{value!r} is not allowed"


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
    """The options of a configuration class, in order of declaration."""
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


# --- TOML files ---------------------------------------------------------------------------


def read_toml(path: Path, what: str, error_class: type[Exception] = ConfigError) -> dict[str, Any]:
    """Read a TOML file, with one sentence for a missing or malformed one."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error_class(f"{what} {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise error_class(f"{what} {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise error_class(f"{what} {path} is not valid TOML: {error}") from error
