"""Options to and from TOML and --set: strict, and with errors that name the key."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Literal

import attrs
import pytest
import tomli_w
from attrs.validators import ge, gt, in_, lt, optional

from openset_core import FamilySpec, NoOptions, option
from openset_core.errors import ConfigError, ProtocolError
from openset_core.experiment.config import (
    describe,
    merge,
    parse_assignments,
    parse_value,
    read_toml,
    structure,
    type_name,
    unstructure,
)
from openset_core.experiment.training_options import TrainingOptions
from openset_core.registry import registry


def refusal(values, cls, where="part", error=ConfigError):
    """The one-line message with which values are refused."""
    with pytest.raises(error) as raised:
        structure(values, cls, where, error)
    message = str(raised.value)
    assert "\n" not in message
    return message


# ---- values from text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1", 1),
        ("-3", -3),
        ("1e-4", 1e-4),
        ("1_000", 1000),
        ("true", True),
        ("false", False),
        ("[1, 2]", [1, 2]),
        ("[0.9, 0.999]", [0.9, 0.999]),
        ("[]", []),
        ('["a", "b"]', ["a", "b"]),
        ('"quoted text"', "quoted text"),
        ('"1"', "1"),
        ("kl", "kl"),
        ("max-logit", "max-logit"),
        ("reduction=2", "reduction=2"),
        ("True", "True"),
        ("none", "none"),
        ("", ""),
        ("3.9.1", "3.9.1"),
        ("[1, 2", "[1, 2"),
        ("timm:resnet18", "timm:resnet18"),
        ("{a = 1}", {"a": 1}),
    ],
)
def test_values_are_read_as_toml_and_words_as_text(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_infinity_and_nan_are_numbers():
    assert parse_value("inf") == math.inf
    assert math.isnan(parse_value("nan"))


def test_assignments_are_collected_by_section():
    found = parse_assignments(
        [
            "m2iosr.gamma=0.2",
            " training.lr = 0.05 ",
            "m2iosr.fine_map=reduction=2",
            "timm:resnet18.a1_in1k.pretrained=true",
            "m2iosr.prior=",
        ]
    )
    assert found == {
        "m2iosr": {"gamma": 0.2, "fine_map": "reduction=2", "prior": ""},
        "training": {"lr": 0.05},
        "timm:resnet18.a1_in1k": {"pretrained": True},
    }
    assert parse_assignments([]) == {}


@pytest.mark.parametrize(
    "text", ["", "x", "training", "training.lr", "lr=1", ".lr=1", "training.=1", "=1", "=", ".="]
)
def test_assignments_of_another_form_are_refused_with_an_example(text):
    with pytest.raises(ConfigError) as raised:
        parse_assignments(["training.epochs=1", text])
    assert str(raised.value).startswith(f"--set {text!r} is not of the form component.option=value")
    assert "--set training.lr=0.05" in str(raised.value)


def test_an_assignment_given_twice_is_refused():
    with pytest.raises(ConfigError, match=r"--set gives training\.lr twice"):
        parse_assignments(["training.lr=1", "training.lr=2"])


def test_later_layers_win_key_by_key_and_nothing_is_changed_in_place():
    first = {"a": {"x": 1, "y": 1}, "b": {"z": 1}}
    second = {"a": {"y": 2}, "c": {}}
    merged = merge(first, second, {"a": {"w": 3}})
    assert merged == {"a": {"x": 1, "y": 2, "w": 3}, "b": {"z": 1}, "c": {}}
    assert first == {"a": {"x": 1, "y": 1}, "b": {"z": 1}}
    merged["b"]["z"] = 9
    assert first["b"] == {"z": 1}
    assert merge() == {}


# ---- strictness


@attrs.frozen(kw_only=True)
class Typed:
    """One option of every type."""

    flag: bool = False
    count: int = 0
    rate: float = 0.0
    text: str = ""
    numbers: tuple[float, ...] = ()
    pair: tuple[int, int] = (0, 0)
    nested: tuple[tuple[int, ...], ...] = ()
    maybe: int | None = None
    maybe_pair: tuple[float, float] | None = None
    number_or_word: int | str = 0
    word: Literal["a", "b"] = "a"
    table: dict[str, int] = attrs.Factory(dict)
    tables: dict[str, dict[str, float]] = attrs.Factory(dict)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("flag", True, True),
        ("count", 3, 3),
        ("count", -(10**12), -(10**12)),
        ("rate", 0.5, 0.5),
        ("rate", 1, 1.0),
        ("text", "x", "x"),
        ("text", "", ""),
        ("numbers", [1, 2.5], (1.0, 2.5)),
        ("numbers", (), ()),
        ("pair", [1, 2], (1, 2)),
        ("nested", [[1], [], [2, 3]], ((1,), (), (2, 3))),
        ("maybe", None, None),
        ("maybe", 4, 4),
        ("maybe_pair", [1, 2], (1.0, 2.0)),
        ("number_or_word", 4, 4),
        ("number_or_word", "4", "4"),
        ("word", "b", "b"),
        ("table", {"a": 1}, {"a": 1}),
        ("tables", {"a": {"b": 1}}, {"a": {"b": 1.0}}),
    ],
)
def test_values_of_the_right_type_are_taken(key, value, expected):
    found = getattr(structure({key: value}, Typed, "part"), key)
    assert found == expected
    assert repr(found) == repr(expected)  # so that 1 is not taken for 1.0 or True


@pytest.mark.parametrize(
    ("key", "value", "expects"),
    [
        ("flag", "false", "true or false"),
        ("flag", "true", "true or false"),
        ("flag", 0, "true or false"),
        ("flag", 1, "true or false"),
        ("flag", None, "true or false"),
        ("count", 3.9, "int"),
        ("count", 3.0, "int"),
        ("count", "3", "int"),
        ("count", True, "int"),
        ("count", None, "int"),
        ("count", [3], "int"),
        ("rate", "0.1", "float"),
        ("rate", ".5", "float"),
        ("rate", True, "float"),
        ("rate", [0.1], "float"),
        ("text", 1, "text"),
        ("text", True, "text"),
        ("text", ["x"], "text"),
        ("numbers", 1.0, "list of float"),
        ("numbers", "12", "list of float"),
        ("numbers", ["a"], "float"),
        ("numbers", [True], "float"),
        ("numbers", {"a": 1}, "list of float"),
        ("pair", [1], "list of 2 values (int, int)"),
        ("pair", [1, 2, 3], "list of 2 values (int, int)"),
        ("pair", [1, 2.0], "int"),
        ("nested", [1], "list of int"),
        ("nested", [["a"]], "int"),
        ("maybe", "nothing", "int or nothing"),
        ("maybe", 1.5, "int or nothing"),
        ("maybe", True, "int or nothing"),
        ("maybe_pair", [1.0], "list of 2 values (float, float) or nothing"),
        ("number_or_word", 1.5, "int or text"),
        ("number_or_word", None, "int or text"),
        ("table", 3, "a table"),
        ("table", [["a", 1]], "a table"),
        ("table", {"a": "1"}, "int"),
        ("tables", {"a": 3}, "a table"),
        ("tables", {"a": {"b": "c"}}, "float"),
    ],
)
def test_values_of_a_wrong_type_are_refused_naming_key_type_and_value(key, value, expects):
    message = refusal({key: value}, Typed)
    assert re.match(rf"part\.{key}[\w.\[\]]* expects {re.escape(expects)}, not ", message)
    inner = value
    while isinstance(inner, dict | list) and repr(inner) not in message:
        inner = next(iter(inner.values())) if isinstance(inner, dict) else inner[-1]
    assert message.endswith(f"not {inner!r}")


def test_a_word_outside_the_allowed_ones_is_refused():
    assert refusal({"word": "c"}, Typed) == "part.word expects 'a' or 'b', not 'c'"


@pytest.mark.parametrize("values", [3, "text", [1], None])
def test_what_is_no_table_is_refused(values):
    expected = f"part expects a table of options, not {values!r}"
    assert refusal(values, Typed) == expected
    assert refusal(values, Typed, error=ProtocolError) == expected


# ---- errors


@attrs.frozen(kw_only=True)
class Checked:
    """Options with validators."""

    positive: float = option(1.0, "above 0", validator=gt(0.0))
    share: float = option(0.5, "a share", validator=[ge(0.0), lt(1.0)])
    word: str = option("kl", "one of two", choices=("kl", "none"))
    maybe: int | None = option(None, "a number or nothing", validator=optional(ge(1)))


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("positive", 0, "must be > 0.0: 0.0"),
        ("positive", -2.5, "must be > 0.0: -2.5"),
        ("positive", math.nan, "must be > 0.0: nan"),
        ("share", 1, "must be < 1.0: 1.0"),
        ("share", -0.25, "must be >= 0.0: -0.25"),
        ("word", "kll", "must be in ('kl', 'none') (got 'kll')"),
        ("maybe", 0, "must be >= 1: 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key_and_the_rule(key, value, rule):
    assert refusal({key: value}, Checked) == f"part.{key}: '{key}' {rule}"


def test_an_unknown_key_is_answered_with_the_nearest():
    message = refusal({"positiv": 2.0}, Checked)
    assert message == "part has no option 'positiv'; did you mean positive?"


def test_a_key_like_no_other_is_answered_with_all():
    message = refusal({"zzz": 2.0}, Checked)
    assert message == "part has no option 'zzz'; it has positive, share, word, maybe"
    assert refusal({"zzz": 1}, NoOptions) == "part has no option 'zzz'; it has no options"


def test_all_problems_are_told_at_once():
    message = refusal({"wrod": "kl", "positive": "x", "share": 2.0, "word": "other"}, Checked)
    problems = message.split("; ")
    assert len(problems) == 5  # the suggestion has a semicolon of its own
    assert "part has no option 'wrod'" in problems
    assert "part.positive expects float, not 'x'" in problems
    assert any(text.startswith("part.share: 'share' must be < 1.0") for text in problems)
    assert any(text.startswith("part.word: 'word' must be in") for text in problems)


@attrs.frozen(kw_only=True)
class Inner:
    """A table within another."""

    size: int
    trials: tuple[tuple[int, ...], ...] = ()
    fraction: float = attrs.field(default=0.5, validator=[gt(0.0), lt(1.0)])


@attrs.frozen(kw_only=True)
class Outer:
    """Tables in tables."""

    inner: Inner
    by_name: dict[str, Inner] = attrs.Factory(dict)
    several: tuple[Inner, ...] = ()
    maybe: Inner | None = None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {}}, "file.toml.inner lacks size"),
        ({"inner": 3}, "file.toml.inner expects a table of options, not 3"),
        ({"inner": {"size": "x"}}, "file.toml.inner.size expects int, not 'x'"),
        (
            {"inner": {"size": 1, "trials": [["x"]]}},
            "file.toml.inner.trials[0][0] expects int, not 'x'",
        ),
        (
            {"inner": {"size": 1, "sise": 2}},
            "file.toml.inner has no option 'sise'; did you mean size?",
        ),
        (
            {"inner": {"size": 1}, "by_name": {"a": {"size": 1}, "b": {"size": 2.5}}},
            "file.toml.by_name.b.size expects int, not 2.5",
        ),
        ({"inner": {"size": 1}, "by_name": 3}, "file.toml.by_name expects a table, not 3"),
        ({"inner": {"size": 1}, "by_name": [1]}, "file.toml.by_name expects a table, not [1]"),
        (
            {"inner": {"size": 1}, "by_name": {"a": 3}},
            "file.toml.by_name.a expects a table of options, not 3",
        ),
        (
            {"inner": {"size": 1}, "several": [{"size": 1}, {"size": 1, "fraction": 1.5}]},
            "file.toml.several[1].fraction: 'fraction' must be < 1.0: 1.5",
        ),
        (
            {"inner": {"size": 1}, "several": {"size": 1}},
            "file.toml.several expects list of Inner, not {'size': 1}",
        ),
        (
            {"inner": {"size": 1}, "maybe": {"size": 1, "sise": 2}},
            "file.toml.maybe has no option 'sise'; did you mean size?",
        ),
        ({}, "file.toml lacks inner"),
        (
            {"iner": {"size": 1}},
            "file.toml has no option 'iner'; did you mean inner?; file.toml lacks inner",
        ),
    ],
)
def test_problems_in_nested_tables_name_the_whole_path(values, message):
    assert refusal(values, Outer, "file.toml", ProtocolError) == message


def test_nested_tables_are_built():
    values = {
        "inner": {"size": 1, "trials": [[1, 2], [3]]},
        "by_name": {"a": {"size": 2}},
        "several": [{"size": 3, "fraction": 0.25}],
    }
    built = structure(values, Outer, "file.toml")
    assert built == Outer(
        inner=Inner(size=1, trials=((1, 2), (3,))),
        by_name={"a": Inner(size=2)},
        several=(Inner(size=3, fraction=0.25),),
    )
    assert structure(tomllib.loads(tomli_w.dumps(unstructure(built))), Outer, "x") == built


@attrs.frozen(kw_only=True)
class Related:
    """Two options that must fit each other."""

    low: int = 0
    high: int = 1

    def __attrs_post_init__(self):
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")


def test_what_only_the_whole_object_can_check_is_told_too():
    assert refusal({"low": 5}, Related) == "part: low 5 must be below high 1"


# ---- first-party options


def configurations():
    found = {"training": TrainingOptions}
    for part in registry().components:
        if part.distribution == "openset" and not isinstance(part.spec, FamilySpec):
            found[f"{part.kind}:{part.name}"] = getattr(part.spec, "config", NoOptions)
    return {name: cls for name, cls in found.items() if cls is not NoOptions}


CONFIGURATIONS = configurations()
each_configuration = pytest.mark.parametrize("name", CONFIGURATIONS)


def through_a_file(config):
    """What becomes of options that are written to TOML and read again."""
    text = tomli_w.dumps(unstructure(config))
    return structure(tomllib.loads(text), type(config), "part")


def other_values(field, info):
    """Values that differ from an option's default; its validators may refuse some of them."""
    default = field.default
    if info.choices:
        candidates = info.choices
    elif isinstance(default, bool):
        candidates = (not default,)
    elif isinstance(default, int):
        candidates = (default + 1, default - 1)
    elif isinstance(default, float):
        candidates = (default / 2, default + 0.25, default - 0.25)
    elif isinstance(default, str):
        candidates = (default + 'x "quoted" \\ Grüße',)
    elif isinstance(default, tuple):
        last = default[-1] / 2 if default and not isinstance(default[-1], str) else "text"
        candidates = (tuple(reversed(default)), (*default[:-1], last), (*default, "text"), (3,))
        candidates += ((("text", 0.5, 3),),)
    else:
        candidates = (3, 0.5, "text", True, (1, 2))
    return [candidate for candidate in candidates if candidate != default]


def test_the_configurations_are_those_of_the_first_party():
    assert {"training", "loss:m2iosr", "loss:softmax", "scorer:openmax", "scorer:msp"} <= set(
        CONFIGURATIONS
    )


@each_configuration
def test_defaults_pass_their_own_checks_and_survive_a_file(name):
    cls = CONFIGURATIONS[name]
    assert structure({}, cls, name) == cls()
    assert through_a_file(cls()) == cls()


@each_configuration
def test_every_option_survives_a_file_with_another_value(name):
    cls = CONFIGURATIONS[name]
    for field, info in zip(attrs.fields(cls), describe(cls), strict=True):
        changed = []
        for value in other_values(field, info):
            try:
                changed.append(structure({field.name: value}, cls, name))
            except ConfigError:
                continue
        assert changed, f"{name}.{field.name}: no other value was found"
        for config in changed:
            assert getattr(config, field.name) != field.default
            again = through_a_file(config)
            assert again == config
            assert repr(again) == repr(config)


@each_configuration
def test_every_option_is_described(name):
    cls = CONFIGURATIONS[name]
    described = describe(cls)
    assert [info.name for info in described] == [field.name for field in attrs.fields(cls)]
    for info, field in zip(described, attrs.fields(cls), strict=True):
        assert info.help.strip(), f"{name}.{info.name} has no help"
        assert "\n" not in info.help
        assert info.type, f"{name}.{info.name} has no type"
        assert info.default == field.default
        if info.choices:
            assert info.default in info.choices


@each_configuration
def test_every_option_refuses_a_wrong_type_by_name(name):
    for field in attrs.fields(CONFIGURATIONS[name]):
        message = refusal({field.name: {"a": object}}, CONFIGURATIONS[name], name)
        assert message.startswith(f"{name}.{field.name} expects ")


@each_configuration
def test_options_are_read_only(name):
    config = CONFIGURATIONS[name]()
    field = attrs.fields(CONFIGURATIONS[name])[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(config, field, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("optimizer", "sdg"),
        ("lr", 0.0),
        ("lr", math.nan),
        ("momentum", 1.5),
        ("betas", [0.9, 1.0]),
        ("betas", [-0.1, 0.9]),
        ("weight_decay", -1.0),
        ("schedule", "steps"),
        ("step_epochs", 0),
        ("step_factor", 0.0),
        ("warmup_epochs", -1),
        ("final_factor", 2),
        ("crop_padding", -1),
        ("precision", "fp16"),
    ],
)
def test_training_options_out_of_range_are_refused(key, value):
    message = refusal({key: value}, TrainingOptions, "training")
    assert message.startswith(f"training.{key}: '{key}' must be ")


# ---- plain values and names of types


def test_nothing_is_left_out_and_paths_become_text():
    @attrs.frozen
    class Mixed:
        """Values that TOML does not know."""

        path: Path = Path("a/b")
        nothing: int | None = None
        table: dict[str, object] = attrs.Factory(lambda: {"a": None, "b": (1, 2)})

    assert unstructure(Mixed()) == {"path": "a/b", "table": {"b": [1, 2]}}


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (str, "text"),
        (bool, "true or false"),
        (tuple[float, ...], "list of float"),
        (tuple[int, str], "list of 2 values (int, text)"),
        (int | None, "int or nothing"),
        (Literal["a", 1], "'a' or 1"),
        (dict[str, int], "a table"),
    ],
)
def test_types_are_named_for_readers(annotation, text):
    assert type_name(annotation) == text


def test_an_option_carries_equation_and_choices():
    @attrs.frozen(kw_only=True)
    class One:
        """One option."""

        weight: float = option(
            0.5, "a weight", equation="lambda, Eq. 3", validator=in_((0.5, 1.0)), choices=(0.5, 1.0)
        )

    (info,) = describe(One)
    assert (info.type, info.default, info.help) == ("float", 0.5, "a weight")
    assert (info.equation, info.choices) == ("lambda, Eq. 3", (0.5, 1.0))


# ---- files


def test_files_that_cannot_be_read_are_told_in_one_sentence(tmp_path):
    file = tmp_path / "x.toml"
    cases = {f"experiment {file} does not exist": None}
    cases[f"experiment {file} is not valid TOML: "] = b"a = \n"
    cases[f"experiment {file} cannot be read: "] = b"a = '\xff'"
    for message, content in cases.items():
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ProtocolError) as raised:
            read_toml(file, "experiment", ProtocolError)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path, "experiment")
    file.write_text("a = 1\n")
    assert read_toml(file, "experiment") == {"a": 1}
