"""Training recipes over protocols: what counts more than what, and where it is written down."""

from __future__ import annotations

import tomllib

import pytest

from openset_core import RecipeSpec, api
from openset_core.errors import ProtocolError
from openset_core.experiment.experiment import resolve
from openset_core.experiment.protocol import load_protocol
from openset_core.experiment.recipe import load_recipe
from openset_core.registry import Component, registry

OWN = """
summary = "a recipe of one's own"
source = "me"
scorers = ["energy"]
[image]
mean = [0.1, 0.2, 0.6]
[training]
epochs = 3
lr = 0.5
weight_decay = 0.01
[recipes.softmax]
lr = 0.4
[options.softmax]
bias = false
[datasets.digits.training]
lr = 0.3
[datasets.digits.recipes."softmax+classifier32"]
momentum = 0.7
[protocols.digits.training]
batch_size = 16
[[protocols.digits.published]]
method = "softmax"
metric = "auroc"
value = 0.123
source = "a paper"
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    return str(path)


# --- what counts ----------------------------------------------------------------------------------


def test_the_more_particular_value_counts_and_the_users_most(own):
    training = resolve("softmax,classifier32", "digits", recipe=own).training
    assert (training.epochs, training.weight_decay) == (3, 0.01)  # over the protocol's 10 and 0
    assert (training.lr, training.momentum, training.batch_size) == (0.3, 0.7, 16)
    assert training.schedule == "one-cycle"  # of the protocol, where the recipe says nothing
    assert resolve("softmax,vgg13", "digits", recipe=own).training.momentum == 0.9
    user = {"training": {"lr": 0.2}, "softmax": {"bias": True}}
    changed = resolve("softmax,classifier32", "digits", overrides=user, recipe=own)
    assert changed.training.lr == 0.2
    assert changed.options["softmax"].bias is True
    # A method's own recipe is weaker, too: M2IOSR's has rate 0.01.
    assert resolve("m2iosr,vgg13", "digits", recipe=own).training.lr == 0.3


def test_a_recipe_brings_preprocessing_options_and_score_rule(own):
    experiment = resolve("softmax,vgg13", "digits", recipe=own)
    assert experiment.protocol.content.image.mean == (pytest.approx(0.3),)  # digits are grey
    assert resolve("softmax", "mnist", recipe=own).protocol.content.image.mean == (0.1, 0.2, 0.6)
    assert experiment.options["softmax"].bias is False
    assert [part.name for part in experiment.selection.scorers] == ["energy"]
    assert experiment.default_scorer == "energy"
    named = resolve("softmax,vgg13,knn", "digits", recipe=own)
    assert [part.name for part in named.selection.scorers] == ["knn"]
    plain = resolve("softmax,vgg13", "digits")
    assert plain.digest != experiment.digest


def test_published_figures_stand_beside_runs_with_their_recipe_only(own):
    with_recipe = resolve("softmax", "digits", recipe=own).protocol.content.published
    assert [figure.value for figure in with_recipe] == [0.123]
    assert resolve("softmax", "mnist", recipe=own).protocol.content.published == ()
    strong = resolve("softmax", "tiny-imagenet", recipe="strong").protocol
    assert strong.published_for("softmax", "auroc", "max-logit", "max-logit").value == 0.83
    assert (
        resolve("softmax", "tiny-imagenet").protocol.published_for(
            "softmax", "auroc", "max-logit", "msp"
        )
        is None
    )


def test_a_protocol_based_on_another_takes_its_layer(own, tmp_path):
    derived = tmp_path / "small.toml"
    derived.write_text('base = "digits"\nsummary = "s"\n[known]\nsamples = 60\n')
    assert resolve("softmax", str(derived), recipe=own).training.batch_size == 16


# --- where it is written down ---------------------------------------------------------------------


def test_a_recorded_run_is_the_same_experiment_again(own, tmp_path, monkeypatch):
    first = resolve("softmax,vgg13", "digits", recipe=own)
    assert first.to_toml()["recipe"] == own
    assert "-mine-" in first.default_folder_name()
    import tomli_w

    file = tmp_path / "experiment.toml"
    file.write_text(tomli_w.dumps(first.to_toml()))
    again = resolve(file=file)
    assert again.recipe == first.recipe
    assert (again.digest, again.training, again.options) == (
        first.digest,
        first.training,
        first.options,
    )
    assert "recipe" not in resolve("softmax,vgg13", "digits").to_toml()


def test_a_run_with_a_recipe_says_so_in_its_results(tiny, own, tmp_path, openset):
    run = api.run("softmax,tiny", "tiny-digits", recipe=own, epochs=1, out=tmp_path / "run")
    assert run.results.recipe == own
    recorded = tomllib.loads((tmp_path / "run" / "experiment.toml").read_text())
    assert recorded["recipe"] == own
    assert recorded["training"]["lr"] == 0.3
    answer = openset("run", tmp_path / "run", "-q", "--no-report")
    assert f"recipe {own}" in answer.out


# --- the one in the box ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugins", "protocol", "expected"),
    [
        ("softmax", "mnist", (0.1, 1, 8.0, False, 0.0, 128)),
        ("softmax", "svhn", (0.1, 1, 18.0, False, 0.0, 128)),
        ("softmax", "cifar10", (0.1, 1, 6.0, True, 0.0, 128)),
        ("arpl,confused-gan", "cifar10", (0.1, 1, 15.0, True, 0.0, 128)),
        ("arpl", "cifar10", (0.1, 1, 6.0, True, 0.0, 128)),
        ("arpl,confused-gan", "cifar+10", (0.1, 1, 6.0, True, 0.0, 128)),
        ("arpl,confused-gan", "cifar+50", (0.1, 1, 6.0, True, 0.0, 128)),
        ("softmax", "tiny-imagenet", (0.01, 1, 9.0, True, 0.9 * 20 / 19, 128)),
        ("arpl,confused-gan", "tiny-imagenet", (0.001, 1, 9.0, True, 0.9 * 20 / 19, 128)),
        ("softmax,timm:resnet50", "ssb", (0.001, 2, 30.0, True, 0.3, 32)),
        ("arpl,timm:resnet50", "ssb", (0.001, 2, 30.0, True, 0.2, 32)),
    ],
)
def test_the_strong_baseline_has_its_tuned_values(plugins, protocol, expected):
    experiment = resolve(plugins, protocol, recipe="strong")
    options = experiment.training
    found = (
        options.lr,
        options.randaugment_ops,
        options.randaugment_magnitude,
        options.randaugment_placement,
        options.label_smoothing,
        options.batch_size,
    )
    assert found == pytest.approx(expected, abs=1e-6)
    assert (options.epochs, options.schedule, options.restarts) == (600, "cosine", 2)
    assert (options.warmup_epochs, options.crop_padding, options.flip) == (10.0, 4, True)
    adam = protocol == "tiny-imagenet"
    assert options.optimizer == ("adam" if adam else "sgd")
    assert options.weight_decay == (0.0 if adam else 1e-4)
    assert [part.name for part in experiment.selection.scorers] == ["max-logit"]
    assert experiment.protocol.content.image.mean == (0.4914, 0.4822, 0.4465)


@pytest.mark.parametrize("loss", ["softmax", "arpl", "m2iosr"])
def test_any_loss_trains_with_the_strong_recipe(tiny, loss, tmp_path):
    run = api.run(f"{loss},tiny", "tiny-digits", recipe="strong", epochs=1, out=tmp_path / loss)
    assert run.results.scorers["max-logit"].metrics["auroc"] > 0


# --- finding one ----------------------------------------------------------------------------------


def refusal(name):
    with pytest.raises(ProtocolError) as raised:
        load_recipe(name)
    return str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('source = "me"', 'sorce = "me"', "has no option 'sorce'; did you mean source"),
        ("epochs = 3", "epocs = 3", ".training has no option 'epocs'; did you mean epochs"),
        ("lr = 0.3", "lr = -1.0", ".datasets.digits.training.lr: 'lr' must be > 0.0"),
        ("momentum = 0.7", "momentum = 7.0", "recipes.softmax+classifier32.momentum: "),
        ("mean = [0.1, 0.2, 0.6]", 'mean = "x"', ".image.mean expects list of float"),
        (
            'metric = "auroc"',
            'metric = "auro"',
            "published[0].metric is 'auro'; did you mean auroc",
        ),
        ('summary = "a recipe of one\'s own"', "", " lacks summary"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_naming_the_key(own, old, new, message, tmp_path):
    path = tmp_path / "bad.toml"
    assert old in OWN
    path.write_text(OWN.replace(old, new))
    found = refusal(str(path))
    assert found.startswith(str(path))
    assert message in found
    assert "\n" not in found


def test_an_unknown_recipe_is_answered_with_the_nearest(openset):
    message = "no recipe is called 'strnog'; did you mean strong?; installed: "
    assert refusal("strnog").startswith(message)
    answer = openset("run", "-q", "--recipe", "strnog")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {message}")
    assert "does not exist" in refusal("nowhere.toml")


def test_plugins_bring_recipes_and_two_of_one_name_are_refused(own, tmp_path, openset, monkeypatch):
    other = tmp_path / "other.toml"
    other.write_text(OWN)
    specs = [RecipeSpec(name="theirs", path=own), RecipeSpec(name="theirs", path=other)]
    parts = [
        Component(spec=spec, distribution=f"dist-{number}", version="1.0")
        for number, spec in enumerate(specs)
    ]
    monkeypatch.setattr(registry(), "components", [*registry().components, parts[0]])
    assert resolve("softmax", "digits", recipe="theirs").training.epochs == 3
    listed = openset("recipes").out
    assert "theirs  a recipe of one's own" in listed
    assert "tuned for: digits" in listed
    monkeypatch.setattr(registry(), "components", [*registry().components, parts[1]])
    found = refusal("theirs")
    assert "dist-0 1.0 and dist-1 1.0 both offer recipe 'theirs'" in found
    assert str(other) in found


def test_recipes_are_shown_as_they_are_and_as_they_come_out(own, openset):
    text = openset("recipes", "show", own).out
    assert "epochs=3 lr=0.5 weight_decay=0.01" in text
    assert "known classes of digits: training with softmax+classifier32:" in text
    assert "protocol digits: training:" in text
    resolved = openset("recipes", "show", own, "--protocol", "digits", "-p", "softmax,vgg13").out
    assert "under protocol digits, with softmax, vgg13, energy:" in resolved
    assert "epochs=3 batch_size=16" in " ".join(resolved.split())
    assert tomllib.loads(openset("recipes", "show", own, "--toml").out)["source"] == "me"
    strong = openset("recipes", "show", "strong").out
    assert "  protocol tiny-imagenet: results with it:\n" in strong
    assert "    softmax             max-logit      84.2   83.0\n" in strong


def test_a_recipe_changes_nothing_for_those_who_name_none():
    assert load_protocol("digits").content.image == resolve().protocol.content.image
    assert resolve().recipe is None


def test_runs_with_and_without_a_recipe_are_methods_of_one_comparison(tiny, own, tmp_path):
    from openset_core.results.comparison import compare

    for recipe in (None, own):
        api.run(
            "softmax,tiny,msp",
            "tiny-digits",
            recipe=recipe,
            epochs=1,
            out=tmp_path / "runs" / ("with" if recipe else "without"),
        )
    compared = compare(tmp_path / "runs")
    assert len(compared.settings) == 1
    assert {method.name for method in compared.methods} == {
        "softmax,tiny",
        "softmax,tiny (recipe mine)",
    }
