"""Protocols: what is shipped, and what a file that contradicts itself is answered."""

from __future__ import annotations

import tomllib
import zlib
from pathlib import Path

import attrs
import pytest
import tomli_w

import openset_protocols
from openset_core import DatasetSpec, ImageSet, ProtocolSpec
from openset_core.data.preparation import prepare_data
from openset_core.errors import PluginError, ProtocolError
from openset_core.experiment.classes import parse_ranges
from openset_core.experiment.config import structure, unstructure
from openset_core.experiment.experiment import resolve
from openset_core.experiment.protocol import ImageOptions, ProtocolFile, load_protocol
from openset_core.registry import Component, Registry, registry

SHIPPED = [spec.name for spec in openset_protocols.openset_protocols()]
each_shipped = pytest.mark.parametrize("name", SHIPPED)

# The class lists that the released split file gives, in its order.
MNIST = (
    (2, 4, 5, 9, 8, 3),
    (3, 2, 6, 9, 4, 0),
    (5, 8, 3, 2, 4, 6),
    (3, 7, 8, 4, 0, 5),
    (6, 3, 4, 9, 8, 2),
)

OWN = """
summary = "a protocol of one's own"

[image]
size = 8
channels = 1

[known]
dataset = "digits"
test_fraction = 0.5
trials = [[0, 1, 2], [3, 4, 5]]

[unknown.rest]
dataset = "digits"
"""


def edited(change):
    """The values of OWN after `change(values)`."""
    values = tomllib.loads(OWN)
    change(values)
    return values


@pytest.fixture
def write(tmp_path):
    """Write a protocol's values, or its text, to a file and give the path."""

    def write(content, name="own.toml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else tomli_w.dumps(content), "utf-8")
        return str(path)

    return write


def refusal(call, *arguments, error=ProtocolError):
    with pytest.raises(error) as raised:
        call(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    return message


# ---- what is shipped


def test_every_file_is_a_protocol():
    folder = Path(openset_protocols.__file__).parent
    assert {path.stem for path in folder.glob("*.toml")} == set(SHIPPED)
    assert {"digits", "mnist"} <= set(SHIPPED)


@each_shipped
def test_every_shipped_protocol_loads(name):
    protocol = load_protocol(name)
    content = protocol.content
    assert protocol.name == name
    assert protocol.trials == content.known.count > 0
    assert content.summary.strip()
    assert content.source.strip()
    open_set = set(content.report.metrics) - {"accuracy", "incremental_accuracy"}
    assert bool(content.unknown) == bool(open_set)
    assert len(protocol.digest) == 16


@each_shipped
def test_every_shipped_protocol_survives_a_file(name):
    content = load_protocol(name).content
    text = tomli_w.dumps(unstructure(content))
    assert structure(tomllib.loads(text), ProtocolFile, name, ProtocolError) == content


@each_shipped
def test_every_shipped_protocol_runs_as_it_stands(name):
    """Parts, data sets and options that it names exist, and its classes are the data's."""
    protocol = load_protocol(name)
    content = protocol.content
    experiment = resolve(protocol=name)
    assert experiment.training.epochs >= 1
    for dataset in {content.known.dataset, *(part.dataset for part in content.unknown.values())}:
        assert registry().find(dataset, ("dataset",)).name == dataset
    known_set = registry().find(content.known.dataset, ("dataset",)).spec
    if known_set.classes:
        for number in range(protocol.trials):
            chosen = content.known.in_trial(number, known_set.classes, name)
            assert 2 <= len(set(chosen)) == len(chosen) <= len(known_set.classes)
            assert set(chosen) <= set(range(len(known_set.classes)))
    assert ("test" in known_set.parts) == (content.known.test_fraction is None)


@each_shipped
def test_published_figures_carry_their_source_and_a_known_metric(name):
    from openset_core.metrics import METRICS

    content = load_protocol(name).content
    assert set(content.report.metrics) <= set(METRICS)
    for figure in content.published:
        assert figure.source.strip()
        assert figure.metric in METRICS
        # A figure by the paper's threshold needs that threshold to be compared with.
        fixed = content.threshold.fixed or figure.scorer not in ("msp", None)
        assert figure.compat in (None, "arpl") or (figure.compat == "fixed" and fixed)


def test_mnist_has_the_published_splits():
    protocol = load_protocol("mnist")
    assert protocol.content.known.trials == MNIST
    assert protocol.content.known.dataset == "mnist"
    assert {name: part.classes for name, part in protocol.content.unknown.items()} == {
        "rest": "rest"
    }
    assert protocol.content.image == ImageOptions(size=32, channels=3)


def test_published_figures_stand_beside_the_score_rule_they_belong_to(write):
    figures = [
        {"method": "a", "metric": "auroc", "value": 0.5, "source": "s"},
        {"method": "b", "metric": "auroc", "value": 0.6, "source": "s", "scorer": "energy"},
    ]
    protocol = load_protocol(write(edited(lambda v: v.update(published=figures))))
    assert protocol.published_for("a", "auroc", "msp", "msp").value == 0.5
    assert protocol.published_for("a", "auroc", "energy", "msp") is None
    assert protocol.published_for("b", "auroc", "energy", "msp").value == 0.6
    assert protocol.published_for("b", "auroc", "msp", "msp") is None
    assert protocol.published_for("b", "oscr", "energy", "msp") is None
    assert protocol.published_for("c", "auroc", "msp", "msp") is None


def test_figures_of_an_ablation_stand_beside_runs_of_the_ablation(write):
    plain = {"method": "a", "metric": "auroc", "value": 0.5, "source": "s"}
    ablation = {**plain, "value": 0.4, "options": {"gan": {"focus": "off"}}}
    protocol = load_protocol(write(edited(lambda v: v.update(published=[plain, ablation]))))

    def found(**options):
        return protocol.published_for("a", "auroc", "msp", "msp", options={"gan": options}).value

    assert (found(focus="off"), found(focus="iteration"), found()) == (0.4, 0.5, 0.5)
    table_3 = load_protocol("ood-cifar10")
    off = {"confused-gan": {"auxiliary_bn": "off", "focus": "iteration"}}
    figure = table_3.published_for(
        "arpl+confused-gan", "auroc", "max-logit", "max-logit", "svhn", options=off
    )
    assert figure.value == 0.909


# ---- finding one


def test_a_file_of_ones_own_works_by_path(write, tmp_path, monkeypatch):
    path = write(OWN)
    protocol = load_protocol(path)
    assert (protocol.name, protocol.path, protocol.trials) == (path, Path(path), 2)
    monkeypatch.chdir(tmp_path)
    assert load_protocol("own.toml").content == protocol.content
    assert load_protocol("./own.toml").digest == protocol.digest
    assert resolve("softmax,vgg13", "own.toml").protocol.content == protocol.content


def test_an_unknown_name_is_answered_with_the_nearest():
    message = refusal(load_protocol, "mnits")
    assert message.startswith("no protocol is called 'mnits'; did you mean mnist")
    assert "installed: " in message
    assert "a file of your own is named by its path" in message
    assert "did you mean" not in refusal(load_protocol, "zzzzz")


def test_a_file_that_is_missing_or_malformed_is_named(write, tmp_path):
    gone = str(tmp_path / "gone.toml")
    assert refusal(load_protocol, gone) == f"protocol {gone} does not exist"
    bad = write("summary = \n")
    assert refusal(load_protocol, bad).startswith(f"protocol {bad} is not valid TOML: ")
    assert "cannot be read" in refusal(load_protocol, f"{tmp_path}/")


def test_two_distributions_with_one_protocol_are_refused_naming_both(write):
    paths = [write(OWN, "a.toml"), write(OWN, "b.toml")]
    plugins = Registry([])
    for path, owner in zip(paths, ("alpha-dist", "beta-dist"), strict=True):
        spec = ProtocolSpec(name="twin", path=path)
        plugins.components.append(Component(spec=spec, distribution=owner, version="1.0"))
    message = refusal(load_protocol, "twin", plugins)
    assert "alpha-dist 1.0 and beta-dist 1.0 both offer protocol 'twin'" in message
    assert all(path in message for path in paths)
    assert load_protocol(paths[1], plugins).trials == 2


@pytest.mark.parametrize("trial", [2, 99, -1])
def test_a_trial_that_does_not_exist_is_refused(write, tmp_path, trial):
    path = write(OWN)
    expected = f"protocol {path} has trials 0 to 1, there is no trial {trial}"
    assert refusal(load_protocol(path).check_trial, trial) == expected
    assert refusal(prepare_data, load_protocol(path), trial, tmp_path) == expected
    with pytest.raises(ProtocolError, match="there is no trial"):
        resolve(protocol=path, trial=trial)


# ---- what contradicts itself

ALL = 'write classes = "all" or list trials'


def known(**values):
    return lambda v: v["known"].update(values)


def unknown(**values):
    return lambda v: v["unknown"]["rest"].update(values)


def table(name, **values):
    return lambda v: v.setdefault(name, {}).update(values)


CONTRADICTIONS = [
    (
        unknown(trials=[[7, 1], [6]]),
        "unknown.rest.trials[0] names classes that are known in that trial: 1",
    ),
    (
        unknown(trials=[[7], [5, 3]]),
        "unknown.rest.trials[1] names classes that are known in that trial: 3, 5",
    ),
    (unknown(trials=[[7], []]), "unknown.rest.trials[1] names no class"),
    (unknown(trials=[[7, 7], [6]]), "unknown.rest.trials[0] names a class twice"),
    (known(trials=[[0, 1], [3, 4, 3]]), "known.trials[1] names a class twice"),
    (known(trials=[[0, 1], []]), "known.trials[1] names no class"),
    (
        known(trials=[]),
        "known needs exactly one of trials, classes and draw, it has none of them",
    ),
    (known(trials=[0, 1]), "known.trials[0] expects list of int or text, not 0"),
    (known(trials=[[0.5]]), "known.trials[0][0] expects int or text, not 0.5"),
    (
        lambda v: v["known"].pop("trials"),
        "known needs exactly one of trials, classes and draw, it has none of them",
    ),
    (
        known(classes="all"),
        "known needs exactly one of trials, classes and draw, it has trials and classes",
    ),
    (known(samples=1), "known.samples"),
    (lambda v: v["known"].update(trials=[], classes="0-x"), "known.classes is '0-x', which is"),
    (lambda v: v["known"].update(trials=[], draw={"counts": [0]}), "known.draw.counts"),
    (lambda v: v["known"].update(trials=[], draw={}), "known.draw lacks counts"),
    (
        unknown(trials=[[7], [8]], draw={"count": 2}),
        "unknown.rest has both trials and draw; keep one",
    ),
    (unknown(samples=0), 'unknown.rest.samples: samples must be "known" or at least 1, not 0'),
    (unknown(samples="all"), 'unknown.rest.samples: samples must be "known" or at least 1'),
    (
        lambda v: v.update(
            published=[
                {"method": "a", "metric": "auroc", "value": 0.5, "source": "b", "unknown": "rst"}
            ]
        ),
        "published[0].unknown names 'rst', which is no unknown set; did you mean rest?",
    ),
    (table("incremental", class_="rest"), "incremental has no option 'class_'"),
    (table("threshold", fixed={"msp": "low"}), "threshold.fixed.msp expects float, not 'low'"),
    (lambda v: v["known"].pop("dataset"), "known lacks dataset"),
    (lambda v: v.pop("known"), " lacks known"),
    (lambda v: v.pop("summary"), " lacks summary"),
    (known(split_seed=-1), "known.split_seed: 'split_seed' must be >= 0: -1"),
    (known(test_fraction=1.0), "known.test_fraction: 'test_fraction' must be < 1.0"),
    (known(test_fraction=0), "known.test_fraction: 'test_fraction' must be > 0.0"),
    (
        known(test_fractoin=0.5),
        "known has no option 'test_fractoin'; did you mean test_fraction?",
    ),
    (
        table("validaton", fraction=0.1),
        " has no option 'validaton'; did you mean validation?",
    ),
    (unknown(clases="all"), "unknown.rest has no option 'clases'; did you mean classe"),
    (unknown(classes="others"), "unknown.rest.classes is 'others', which is neither"),
    (
        unknown(trials=[[7]]),
        "unknown.rest.trials lists 1 trials, the known classes have 2",
    ),
    (
        unknown(classes="all"),
        'unknown.rest takes all classes of the known data set; write classes = "rest"',
    ),
    (
        unknown(dataset="mnist"),
        f"unknown.rest takes another data set than the known classes; {ALL}",
    ),
    (lambda v: v.update(unknown=3), "unknown expects a table, not 3"),
    (lambda v: v.update(known=3), "known expects a table of options, not 3"),
    (
        lambda v: v.update(unknown={"far": {"classes": "all"}}),
        "unknown.far lacks dataset",
    ),
    (
        table("image", channels=3, mean=[0.5, 0.5]),
        "image.mean has 2 values for 3 channels; give one, or one a channel",
    ),
    (
        table("image", std=[1.0, 1.0, 1.0]),
        "image.std has 3 values for 1 channels; give one, or one a channel",
    ),
    (table("image", mean=[]), "image.mean has 0 values for 1 channels"),
    (table("image", mean=0.5), "image.mean expects list of float, not 0.5"),
    (table("image", std=[0.0]), "image.std: 'std' must be > 0.0: 0.0"),
    (table("image", channels=2), "image.channels: 'channels' must be in (1, 3)"),
    (table("image", size=0), "image.size: 'size' must be >= 1: 0"),
    (
        table("image", interpolation="cubic"),
        "image.interpolation: 'interpolation' must be in",
    ),
    (
        table("validation", fraction=1.0),
        "validation.fraction: 'fraction' must be < 1.0",
    ),
    (table("threshold", acceptance=1.5), "threshold.acceptance: 'acceptance' must be"),
    (table("training", lr=-1.0), "training.lr: 'lr' must be > 0.0: -1.0"),
    (
        table("training", epocs=3),
        "training has no option 'epocs'; did you mean epochs",
    ),
    (lambda v: v.update(training=3), "training expects a table, not 3"),
    (
        table("recipes", softmax={"lr": "high"}),
        "recipes.softmax.lr expects float, not 'high'",
    ),
    (lambda v: v.update(recipes={"softmax": 3}), "recipes.softmax expects a table, not 3"),
    (table("options", softmax=3), "options.softmax expects a table, not 3"),
    (table("report", metrics="auroc"), "report.metrics expects list of text, not"),
    (table("defaults", los="x"), "defaults has no option 'los'; did you mean loss"),
    (
        lambda v: v.update(published=[{"method": "a", "metric": "b", "value": 99.0}]),
        "published[0].value: 'value' must be <= 1.0: 99.0; ",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), CONTRADICTIONS, ids=[case[1] for case in CONTRADICTIONS]
)
def test_a_file_that_cannot_be_meant_is_refused_naming_the_key(write, change, message):
    path = write(edited(change))
    found = refusal(load_protocol, path)
    dot = "" if message.startswith(" ") else "."
    assert found.startswith(f"{path}{dot}{message}")


def test_several_mistakes_are_told_at_once(write):
    def change(values):
        values["image"]["size"] = "big"
        values["known"]["test_fraction"] = 2.0
        values["extra"] = 1

    found = refusal(load_protocol, write(edited(change)))
    for part in ("image.size expects int", "known.test_fraction: ", "no option 'extra'"):
        assert part in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            known(trials=[[0, 10], [3, 4]]),
            ".known.trials[0] names class 10, the data set has classes 0 to 9",
        ),
        (
            known(trials=[[0, -1], [3, 4]]),
            ".known.trials[0] names class -1, the data set has classes 0 to 9",
        ),
        (
            unknown(trials=[[12], [6]]),
            ".unknown.rest.trials[0] names class 12, the data set has classes 0 to 9",
        ),
        (
            lambda v: v["known"].pop("test_fraction"),
            ".known lacks test_fraction; data set digits has no test split of its own",
        ),
    ],
)
def test_what_only_the_data_can_tell_is_refused_too(write, tmp_path, change, message):
    path = write(edited(change))
    assert refusal(prepare_data, load_protocol(path), 0, tmp_path) == path + message


def test_an_unknown_set_of_another_data_set_takes_all_or_lists_trials(write, tmp_path):
    import numpy as np

    images = ImageSet(
        images=np.zeros((6, 4, 4, 3), dtype=np.uint8),
        labels=np.array([0, 1, 2, 0, 1, 2]),
        classes=("a", "b", "c"),
    )
    spec = DatasetSpec(name="other", summary="s", factory=lambda _c, _r: images, parts=("all",))
    plugins = Registry([])
    plugins.components = [
        *registry().components,
        Component(spec=spec, distribution="d", version="1"),
    ]
    for part, rows in (({"classes": "all"}, 6), ({"trials": [[1], [0, 2]]}, 2)):
        protocol = load_protocol(write(edited(unknown(dataset="other", **part))), plugins)
        data = prepare_data(protocol, 0, tmp_path, plugins=plugins)
        assert len(data.splits["unknown/rest"]) == rows
    # The numbers of another data set's classes say nothing about the known ones.
    overlapping = edited(unknown(dataset="other", trials=[[0, 1], [2]]))
    assert load_protocol(write(overlapping), plugins).trials == 2


def test_a_trial_without_unknown_samples_is_refused(write, tmp_path):
    everything = edited(known(trials=[list(range(10))]))
    path = write(everything)
    message = refusal(prepare_data, load_protocol(path), 0, tmp_path)
    assert message == (
        f"protocol {path}, trial 0: split unknown/rest is empty; leave classes for it that are not "
        "known"
    )


def test_an_unknown_data_set_is_answered_with_the_nearest(write, tmp_path):
    protocol = load_protocol(write(OWN.replace('"digits"', '"digist"')))
    message = refusal(prepare_data, protocol, 0, tmp_path, error=PluginError)
    assert message.startswith("no dataset is called 'digist'; did you mean digits")


# ---- what a run is told apart by


def test_the_digest_follows_the_data_and_nothing_else(write):
    plain = load_protocol(write(OWN)).digest
    for change in (
        known(trials=[[0, 1, 2], [3, 5, 4]]),
        known(test_fraction=0.4),
        known(split_seed=1),
        unknown(trials=[[6], [7]]),
        table("image", size=16),
        table("image", mean=[0.5]),
        table("validation", fraction=0.2),
        lambda v: v["unknown"].update(more={"dataset": "digits"}),
    ):
        assert load_protocol(write(edited(change))).digest != plain
    for change in (
        lambda v: v.update(summary="other words", source="elsewhere"),
        table("report", metrics=["auroc"]),
        table("defaults", loss="softmax"),
    ):
        assert load_protocol(write(edited(change), "other.toml")).digest == plain


def test_one_value_may_stand_for_all_channels():
    image = ImageOptions(channels=3, mean=(0.5,), std=(0.1, 0.2, 0.3))
    assert image.per_channel(image.mean) == (0.5, 0.5, 0.5)
    assert image.per_channel(image.std) == (0.1, 0.2, 0.3)
    assert attrs.evolve(image, channels=1).per_channel((0.5,)) == (0.5,)


def test_recipes_and_options_of_a_method_reach_the_experiment(write):
    def change(values):
        values["training"] = {"lr": 0.5, "epochs": 7}
        values["recipes"] = {"softmax": {"lr": 0.25}}
        values["options"] = {"softmax": {"bias": False}, "m2iosr": {"gamma": 0.5}}

    path = write(edited(change))
    experiment = resolve("softmax,vgg13", path)
    assert (experiment.training.lr, experiment.training.epochs) == (0.25, 7)
    assert experiment.options["softmax"].bias is False
    stronger = resolve("softmax,vgg13", path, overrides={"training": {"lr": 0.125}})
    assert stronger.training.lr == 0.125
    assert stronger.training.epochs == 7


# --- the protocols in the box -------------------------------------------------------------------

FIVE_TRIALS = ("mnist", "svhn", "cifar10", "cifar+10", "cifar+50", "tiny-imagenet")


@pytest.mark.parametrize("name", FIVE_TRIALS)
def test_published_splits_have_their_published_shape(name):
    content = load_protocol(name).content
    known, classes = {"cifar+10": (4, 10), "cifar+50": (4, 10), "tiny-imagenet": (20, 200)}.get(
        name, (6, 10)
    )
    assert len(content.known.trials) == 5
    for trial in content.known.trials:
        assert len(set(trial)) == known
        assert set(trial) <= set(range(classes))
    if not name.startswith("cifar+"):
        assert content.unknown["rest"].classes == "rest"


def test_published_splits_are_those_of_the_released_file():
    """Checksums of the lists, order included, computed once from the released split file."""
    sums = {
        "mnist": 2034520026,
        "svhn": 2949258749,
        "cifar10": 1917791527,
        "cifar+10": 89798059,
        "tiny-imagenet": 3997736456,
    }
    found = {
        name: zlib.crc32(str(load_protocol(name).content.known.trials).encode()) for name in sums
    }
    assert found == sums
    unknown = [
        zlib.crc32(str(load_protocol(name).content.unknown["cifar100"].trials).encode())
        for name in ("cifar+10", "cifar+50")
    ]
    assert unknown == [3069498566, 58650514]


def test_the_duplicates_of_the_published_splits_are_as_published():
    def sets(name):
        return [frozenset(trial) for trial in load_protocol(name).content.known.trials]

    for name, (first, second) in {
        "svhn": (0, 1),
        "cifar10": (0, 1),
        "cifar+10": (1, 2),
    }.items():
        found = sets(name)
        assert found[first] == found[second]
        assert len(set(found)) == 4
    assert len(set(sets("mnist"))) == len(set(sets("tiny-imagenet"))) == 5
    assert sets("cifar+10") == sets("cifar+50")


def test_ten_unknown_classes_are_the_last_of_the_fifty():
    ten, fifty = (
        load_protocol(name).content.unknown["cifar100"].trials for name in ("cifar+10", "cifar+50")
    )
    for few, many in zip(ten, fifty, strict=True):
        assert (len(few), len(set(many))) == (10, 50)
        assert many[-10:] == few


def test_m2iosr_animals_are_the_animate_classes_of_cifar100():
    """Ten coarse classes; the vehicles, plants, things and landscapes are left out."""
    content = load_protocol("m2iosr-cifar+50").content
    animals = set(parse_ranges(content.unknown["animals"].draw.classes, "here"))
    assert len(animals) == 50
    things = {0, 5, 8, 9, 10, 12, 13, 16, 17, 20, 22, 25, 28, 33, 37, 39, 40, 41, 47, 48, 49, 51}
    assert not animals & things
    assert set(content.known.trials) == {(0, 1, 8, 9)}  # airplane, automobile, ship, truck


def test_every_protocol_in_the_box_can_be_run_with_its_defaults():
    for part in registry().of_kind("protocol"):
        experiment = resolve("", part.name)
        assert experiment.training.epochs >= 1
        for figure in experiment.protocol.content.published:
            assert 0 < figure.value < 1
            assert figure.source
