"""The family `pytorch-ood:NAME`: the library's own scores and losses, under our contracts."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from openset_core import Features, LossContext, testing
from openset_core.errors import CompositionError, ConfigError, PluginError
from openset_core.experiment import config
from openset_core.experiment.selection import Defaults, select
from openset_core.registry import registry
from openset_plugins.pytorch_ood import tables

CLASSES, WIDTH, TRAIN, TEST = 4, 10, 160, 90
OPTIONS = {"KNN": {"k": 5}, "ViM": {"d": 6}, "OpenMax": {"tailsize": 12, "alpha": 3}}

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_ood") is None,
    reason="pytorch-ood is not installed: pip install 'openset[pytorch-ood]'",
)
each_detector = pytest.mark.parametrize("name", sorted(tables.DETECTORS))
each_loss = pytest.mark.parametrize("name", sorted(tables.LOSSES))


class Rows:
    """Training features, cut into chunks of any size."""

    def __init__(self, table, size, classes=CLASSES):
        self.table, self.size, self.num_classes = table, size, classes
        self.rows = len(table["label"])

    def chunks(self, *arrays):
        for start in range(0, self.rows, self.size):
            yield {key: self.table[key][start : start + self.size] for key in arrays}


class World:
    """Clusters on rectified embeddings, under a linear classifier that knows most of them."""

    def __init__(self, seed=0):
        random = np.random.default_rng(seed)
        centres = random.normal(size=(CLASSES, WIDTH)) * 2 + 1
        self.weight = (0.3 * centres).astype(np.float32)
        self.bias = (-0.15 * np.square(centres).sum(axis=1)).astype(np.float32)
        labels = np.arange(TRAIN) % CLASSES
        known = centres[labels] + random.normal(size=(TRAIN, WIDTH))
        far = random.normal(size=(TEST // 2, WIDTH)) * 3
        near = centres[np.arange(TEST - TEST // 2) % CLASSES] + random.normal(
            size=(TEST - TEST // 2, WIDTH)
        )
        self.train = self.table(known, labels)
        self.test = self.table(np.concatenate([near, far]), np.zeros(TEST, dtype=np.int64))

    def table(self, values, labels):
        embedding = np.maximum(values, 0.01).astype(np.float32)
        return {
            "embedding": embedding,
            "logits": embedding @ self.weight.T + self.bias,
            "label": labels.astype(np.int64),
        }


@pytest.fixture(scope="module")
def world():
    return World()


def scorer_of(name, **options):
    part = registry().find(f"pytorch-ood:{name}")
    return part.load()(config.structure({**OPTIONS.get(name, {}), **options}, part.spec.config, ""))


def fitted(name, world, size=TRAIN, **options):
    scorer = scorer_of(name, **options)
    scorer.fit(Rows(world.train, size))
    return scorer


def by_the_library(name, world):
    """Scores of the library itself, given the true classifier."""
    import pytorch_ood.api
    import pytorch_ood.detector

    cls = getattr(pytorch_ood.detector, name)
    weight, bias = torch.from_numpy(world.weight), torch.from_numpy(world.bias)
    linear = torch.nn.Linear(WIDTH, CLASSES).requires_grad_(False)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    maps = issubclass(cls, pytorch_ood.api.FeatureMapsDetector)
    logits = issubclass(cls, pytorch_ood.api.LogitsDetector)
    values = {
        "encoder": None, "model": None, "backbone": None, "w": weight, "b": bias,
        "head": torch.nn.Sequential(torch.nn.Flatten(), linear) if maps else linear,
        **({"p": 0.9} if name == "DICE" else {}), **OPTIONS.get(name, {}),
    }  # fmt: skip
    wanted = inspect.signature(cls).parameters
    detector = cls(**{key: value for key, value in values.items() if key in wanted})
    kind = "logits" if logits else "feature_maps" if maps else "features"

    def tensor(table):
        found = torch.from_numpy(table["logits" if logits else "embedding"])
        return found[:, :, None, None] if maps else found

    if cls.requires_fit:
        labels = torch.from_numpy(world.train["label"])
        getattr(detector, f"fit_{kind}")(tensor(world.train), labels)
    test = world.test
    if name in tables.COMPARES_IN_BATCH:  # give it a batch in which every class is predicted
        every = np.eye(CLASSES, dtype=np.float32)
        test = {"logits": np.concatenate([test["logits"], every])}
    scores = getattr(detector, f"predict_{kind}")(tensor(test))
    return scores.detach().double().numpy()[:TEST]


# ---- names


@needs_library
def test_every_class_of_the_library_is_served_or_refused_with_a_reason():
    from openset_plugins.pytorch_ood import library

    assert set(library.classes("detector")) == tables.DETECTORS | set(tables.NO_DETECTORS)
    assert set(library.classes("loss")) == {*tables.LOSSES, *tables.NO_LOSSES}
    assert not tables.DETECTORS & set(tables.NO_DETECTORS)
    assert not tables.LOSSES.keys() & tables.NO_LOSSES.keys()


@needs_library
def test_names_are_found_whatever_their_case_and_written_as_the_library_does():
    for asked, kind, name in (
        ("pytorch-ood:knn", "scorer", "pytorch-ood:KNN"),
        ("pytorch-ood:FDBD", "scorer", "pytorch-ood:fDBD"),
        ("pytorch-ood:cacloss", "loss", "pytorch-ood:CACLoss"),
        ("loss:pytorch-ood:CACLoss", "loss", "pytorch-ood:CACLoss"),
    ):
        part = registry().find(asked)
        assert (part.kind, part.name, part.spec.name) == (kind, name, name)
    chosen = select("softmax,lenet-plus-plus,pytorch-ood:knn,pytorch-ood:KNN", Defaults())
    assert [part.reference for part in chosen.scorers] == ["pytorch-ood:KNN"]


@needs_library
@pytest.mark.parametrize("name", sorted([*tables.NO_DETECTORS, *tables.NO_LOSSES]))
def test_a_name_that_cannot_serve_says_why_in_one_sentence(name, openset):
    reason = {**tables.NO_DETECTORS, **tables.NO_LOSSES}[name]
    said = f"error: pytorch-ood:{name} cannot be used here: {reason}\n"
    assert openset("plugins", "show", f"pytorch-ood:{name.lower()}")[:3] == (2, "", said)


@needs_library
def test_unknown_names_and_wrong_kinds_are_told(openset):
    with pytest.raises(PluginError, match="has no detector or loss 'KNNN'; did you mean KNN"):
        registry().find("pytorch-ood:KNNN")
    with pytest.raises(PluginError, match="pytorch-ood:KNN is a scorer, not a loss"):
        registry().find("loss:pytorch-ood:KNN")
    with pytest.raises(PluginError, match="pytorch-ood:CACLoss is a loss, not a scorer"):
        registry().find("scorer:pytorch-ood:CACLoss")
    code, _out, err = openset("run", "-p", "pytorch-ood:ODIN,lenet-plus-plus")
    assert (code, err.count("\n")) == (2, 1)
    assert "it takes gradients" in err


@needs_library
def test_a_class_of_a_newer_release_is_not_guessed_at(monkeypatch):
    from openset_plugins.pytorch_ood import catalogue

    monkeypatch.setattr(tables, "DETECTORS", tables.DETECTORS - {"KNN"})
    with pytest.raises(PluginError, match="pytorch-ood:KNN is newer than this openset"):
        catalogue._canonical("knn")


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pytorch_ood":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from openset_core.cli import main
main(sys.argv[1:])
"""


def without_library(*arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, timeout=120
    )


def test_without_the_library_one_sentence_says_what_to_install():
    done = without_library("plugins", "show", "pytorch-ood:KNN")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: pytorch-ood:NAME needs the library pytorch-ood, which is not installed: "
        "pip install 'openset[pytorch-ood]'\n"
    )


def test_the_family_is_listed_without_the_library_and_without_torch():
    done = without_library("plugins")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pytorch-ood:NAME") == 2
    code = "import sys; from openset_core.registry import registry; registry(); " \
        "print({'torch', 'pytorch_ood'} & set(sys.modules))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr


# ---- options


@needs_library
def test_options_come_from_the_signature():
    options = {
        option.name: option
        for option in config.describe(registry().find("pytorch-ood:GEN").spec.config)
    }
    assert {name: (o.type, o.default) for name, o in options.items()} == {
        "gamma": ("float", 0.1),
        "M": ("int or nothing", None),
    }
    assert "exponent" in options["gamma"].help
    assert scorer_of("GEN", gamma=1)._arguments == {"gamma": 1.0, "M": None}
    for values, reason in (
        ({"k": "five"}, "expects int"),
        ({"k": 2.5}, "expects int"),
        ({"neighbours": 3}, "has no option"),
    ):
        with pytest.raises(ConfigError, match=reason):
            scorer_of("KNN", **values)


@needs_library
def test_every_option_has_a_help_text_and_configurations_can_be_pickled():
    for name in (*tables.DETECTORS, *tables.LOSSES):
        cls = registry().find(f"pytorch-ood:{name}").spec.config
        for option in config.describe(cls):
            assert option.help not in ("", "see pytorch-ood"), (name, option.name)
            assert "`" not in option.help
            assert ":math:" not in option.help
        assert pickle.loads(pickle.dumps(cls())) == cls()


@needs_library
def test_a_spec_is_the_same_however_often_it_is_asked_for():
    part = registry().find("pytorch-ood:KNN")
    assert part == registry().find("pytorch-ood:knn")
    assert part.load().reads == ("embedding", "label")
    assert registry().find("pytorch-ood:ViM").load().reads == ("embedding", "logits", "label")
    assert registry().find("pytorch-ood:ViM").spec.needs == ("embedding", "logits")


# ---- contracts


@needs_library
@pytest.mark.parametrize("name", [*sorted(tables.DETECTORS), *tables.LOSSES])
def test_every_name_keeps_the_contracts_of_its_kind(name):
    report = testing.check_plugin(f"pytorch-ood:{name}", raises=False)
    assert report.passed, str(report)


# ---- detectors


@needs_library
@each_detector
def test_scores_are_the_librarys_own(name, world):
    scores = fitted(name, world).score(world.test)
    assert scores.shape == (TEST,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    expected = by_the_library(name, world)
    np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


@needs_library
@each_detector
def test_scores_do_not_depend_on_how_rows_are_cut(name, world, monkeypatch):
    whole = fitted(name, world).score(world.test)
    scorer = fitted(name, world, size=33)
    pieces = [
        scorer.score({key: values[start : start + 17] for key, values in world.test.items()})
        for start in range(0, TEST, 17)
    ]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("openset_plugins.pytorch_ood.detectors._MOST_ROWS", 7)
    np.testing.assert_allclose(scorer.score(world.test), whole, rtol=1e-4, atol=1e-5)
    empty = {key: values[:0] for key, values in world.test.items()}
    assert scorer.score(empty).shape == (0,)


ELSEWHERE = """
import json, sys
import numpy as np
from safetensors.numpy import load_file
from openset_core.experiment import config
from openset_core.registry import registry

folder, options = sys.argv[1], json.loads(sys.argv[2])
test = load_file(f"{folder}/test.safetensors")
for name in options:
    part = registry().find(f"pytorch-ood:{name}")
    scorer = part.load()(config.structure(options[name], part.spec.config, ""))
    scorer.restore(load_file(f"{folder}/{name}.safetensors"))
    np.save(f"{folder}/{name}.npy", scorer.score(test))
"""


@needs_library
def test_another_process_scores_alike_from_the_kept_arrays(world, tmp_path):
    scorers = {name: fitted(name, world) for name in tables.DETECTORS}
    for name, scorer in scorers.items():
        state = {key: np.ascontiguousarray(value) for key, value in scorer.state().items()}
        save_file(state, tmp_path / f"{name}.safetensors")
    test = {key: world.test[key] for key in ("embedding", "logits")}  # pictures have no label
    save_file(test, tmp_path / "test.safetensors")
    options = json.dumps({name: OPTIONS.get(name, {}) for name in scorers})
    subprocess.run([sys.executable, "-c", ELSEWHERE, tmp_path, options], check=True, timeout=300)
    for name, scorer in scorers.items():
        np.testing.assert_array_equal(
            np.load(tmp_path / f"{name}.npy"), scorer.score(test), err_msg=name
        )
        before = load_file(tmp_path / f"{name}.safetensors")
        again = scorer_of(name)
        again.restore(before)
        assert again.state().keys() == before.keys()


@needs_library
def test_a_learnt_statistic_is_kept_instead_of_the_training_features(world):
    kept = {name: set(fitted(name, world).state()) for name in tables.DETECTORS}
    refitted = {name for name, keys in kept.items() if "fit.values" in keys}
    assert refitted == {"KNN", "OpenMax"}
    assert {"tensor.mu", "tensor.precision"} <= kept["Mahalanobis"]
    assert "entry.dists.0" in kept["KLMatching"]
    assert "number.threshold" in kept["ReAct"]
    assert "point.t" in kept["TemperatureScaling"]


@needs_library
@each_detector
def test_what_is_far_from_all_classes_scores_higher_than_what_is_near(name, world):
    """Directions are not turned anywhere on the way: outliers score higher on the whole."""
    from sklearn.metrics import roc_auc_score

    scores = fitted(name, world).score(world.test)
    truth = np.arange(TEST) >= TEST - TEST // 2
    expected = 0.6 if name != "OpenMax" else 0.55
    assert roc_auc_score(truth, scores) > expected


@needs_library
@pytest.mark.parametrize(
    ("name", "native", "options"),
    [
        ("EnergyBased", "energy", {}),
        ("MaxLogit", "max-logit", {}),
        ("MaxSoftmax", "msp", {}),
        ("KNN", "knn", {"k": 5}),
        ("Mahalanobis", "mahalanobis", {"regularization": "ridge"}),
    ],
)
def test_the_same_method_of_our_own_ranks_alike(name, native, options, world):
    from scipy.stats import spearmanr

    part = registry().find(native)
    own = part.load()(config.structure(options, part.spec.config, ""))
    own.fit(Rows(world.train, 50))
    ours, theirs = own.score(world.test), fitted(name, world).score(world.test)
    assert spearmanr(ours, theirs).statistic > 0.9999
    # Exactly, wherever float32 tells the library's scores apart.
    order = np.argsort(ours)
    steps = np.diff(theirs[order])
    assert (steps >= -1e-5 * np.abs(theirs).max()).all()


@needs_library
@pytest.mark.parametrize("name", ["ViM", "DICE", "NNGuide", "ReAct"])
def test_a_detector_on_a_classifier_refuses_other_logits(name, world):
    distances = -np.square(world.train["embedding"]).sum(axis=1, keepdims=True)
    table = {**world.train, "logits": distances * np.arange(1, CLASSES + 1, dtype=np.float32)}
    with pytest.raises(ValueError, match="no affine map of the embedding"):
        scorer_of(name).fit(Rows(table, TRAIN))


@needs_library
def test_the_classifier_is_found_from_embeddings_and_logits(world):
    state = fitted("NCI", world).state()
    np.testing.assert_allclose(state["head.weight"], world.weight, atol=1e-4)
    np.testing.assert_allclose(state["head.bias"], world.bias, atol=1e-3)


@needs_library
def test_bad_inputs_become_one_sentence(world):
    few = {key: values[:3] for key, values in world.train.items()}
    with pytest.raises(ValueError, match=r"KNN cannot be fitted: k=5 exceeds .* \(3\)"):
        scorer_of("KNN").fit(Rows(few, 3))
    gap = {key: values[world.train["label"] != 1] for key, values in world.train.items()}
    with pytest.raises(ValueError, match="Mahalanobis cannot be fitted: it expects samples of ev"):
        scorer_of("Mahalanobis").fit(Rows(gap, 50))
    with pytest.raises(ValueError, match="no training sample"):
        scorer_of("Mahalanobis").fit(Rows({key: v[:0] for key, v in few.items()}, 5))
    with pytest.raises(ValueError, match="percentile must be a fraction"):
        scorer_of("ReAct", percentile=90.0).fit(Rows(world.train, 50))
    bad = copy.deepcopy(world.test)
    bad["logits"][0, 0] = np.nan
    with pytest.raises(ValueError, match="logits holds values that are not finite"):
        scorer_of("EnergyBased").score(bad)
    with pytest.raises(ValueError, match="state of scorer pytorch-ood:GMM lacks 'classes'"):
        scorer_of("GMM").restore({})
    with pytest.raises(RuntimeError, match="only after fit or restore"):
        scorer_of("GMM").score(world.test)


@needs_library
def test_scores_stay_finite_where_the_library_divides_by_nothing(world):
    table = copy.deepcopy(world.test)
    table["logits"] = np.zeros_like(table["logits"])
    table["logits"][:, 3] = 1e4
    table["logits"][::2, :] *= -1
    for name in ("EnergyBased", "Entropy", "KLMatching", "MaxSoftmax", "GEN"):
        assert np.isfinite(fitted(name, world).score(table)).all(), name


@needs_library
def test_a_sample_without_activation_counts_as_the_most_unknown(world, caplog):
    table = copy.deepcopy(world.test)
    table["embedding"][3] = 0.0
    for name in ("ASH", "LTS", "SCALE"):
        scores = fitted(name, world).score(table)
        assert np.isfinite(scores).all()
        assert scores.argmax() == 3
        assert f"pytorch-ood:{name} gives 1 of {TEST} samples no score" in caplog.text


@needs_library
def test_training_embeddings_that_are_all_equal_are_refused(world):
    table = {key: np.repeat(values[:1], 20, axis=0) for key, values in world.train.items()}
    table["label"] = np.arange(20) % CLASSES
    with pytest.raises(ValueError, match="fDBD needs training embeddings that are not all equal"):
        scorer_of("fDBD").fit(Rows(table, 20))


@needs_library
def test_score_and_run_by_the_command_line(finished, openset):
    names = "pytorch-ood:KNN,pytorch-ood:mahalanobis,pytorch-ood:EnergyBased,pytorch-ood:fDBD"
    code, out, err = openset("score", finished, "-p", names, "--set", "pytorch-ood:KNN.k=5")
    assert code == 0, err
    for name in ("KNN", "Mahalanobis", "EnergyBased", "fDBD"):
        assert f"pytorch-ood:{name}" in out
    recorded = (finished / "experiment.toml").read_text(encoding="utf-8")
    assert '"pytorch-ood:KNN"]' in recorded or '"pytorch-ood:KNN",' in recorded
    code, again, err = openset("score", finished)
    assert (code, again) == (0, out)
    assert "all scores were there" in err


# ---- losses


def head_of(name, width=6, classes=3, **options):
    part = registry().find(f"pytorch-ood:{name}")
    values = config.structure(options, part.spec.config, "")
    return part.load()(values, LossContext(num_classes=classes, vector_dim=width))


def batch(width=6, classes=3, count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(count, width, generator=generator, requires_grad=True)
    return Features(vector, {}), torch.arange(count) % classes


@needs_library
@each_loss
def test_a_loss_trains_the_backbone_and_gives_class_scores(name):
    torch.manual_seed(0)
    head = head_of(name)
    features, labels = batch()
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad] or
                                [features.vector], lr=0.05)  # fmt: skip
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        total = sum(head.loss(features, labels).values())
        total.backward()
        optimizer.step()
        values.append(float(total.detach()))
    assert features.vector.grad.abs().sum() > 0
    assert values[-1] < values[0]
    head.eval()
    logits = head.logits(features)
    assert logits.shape == (12, 3)
    assert torch.isfinite(logits).all()
    assert head.embedding(features).shape[0] == 12
    assert head.open_space(features).shape == (12,)


@needs_library
@each_loss
def test_the_value_is_the_librarys_own(name):
    import pytorch_ood.loss

    torch.manual_seed(0)
    head = head_of(name)
    features, labels = batch()
    embedding = head.embedding(features)
    arguments = {"n_classes": 3, "n_dim": embedding.shape[1], "n_embedding": embedding.shape[1]}
    cls = getattr(pytorch_ood.loss, name)
    wanted = inspect.signature(cls).parameters
    direct = cls(**{key: value for key, value in arguments.items() if key in wanted})
    direct.load_state_dict(head.criterion.state_dict())
    terms = head.loss(features, labels)
    if tables.LOSSES[name].head in ("OnAnchors", "OnCentres", "WithCrossEntropy"):
        expected = direct(direct.distance(embedding), labels)
    elif name == "ObjectosphereLoss":
        expected = direct(head.logits(features), embedding, labels)
    elif name == "IILoss":
        expected = direct(embedding, labels)
    else:
        expected = direct(head.logits(features), labels)
    torch.testing.assert_close(terms["loss"], expected)


@needs_library
@each_loss
def test_a_loss_survives_saving_and_bf16(name):
    torch.manual_seed(0)
    head = head_of(name)
    features, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = Features(features.vector.bfloat16(), {})
        terms = head.loss(half, labels)
        assert head.logits(half).dtype == torch.float32
    assert all(torch.isfinite(term) and term.dtype == torch.float32 for term in terms.values())
    torch.manual_seed(1)
    other = head_of(name)
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other.eval().logits(features), head.eval().logits(features))


@needs_library
def test_a_loss_for_outliers_wants_a_generator_and_takes_its_samples():
    with pytest.raises(CompositionError, match="needs generated samples"):
        select("pytorch-ood:OutlierExposureLoss,vgg13", Defaults())
    chosen = select("pytorch-ood:OutlierExposureLoss,vgg13,confused-gan", Defaults())
    assert chosen.generator.name == "confused-gan"
    import pytorch_ood.loss

    head = head_of("OutlierExposureLoss", alpha=0.5)
    features, _labels = batch()
    outliers = torch.full((12,), -1)
    expected = pytorch_ood.loss.OutlierExposureLoss(alpha=0.5)(head.logits(features), outliers)
    torch.testing.assert_close(head.open_space(features).mean(), expected)
    assert head.criterion.reduction == "mean"


@needs_library
def test_running_centres_hold_no_graph_and_one_class_alone_teaches_nothing():
    head = head_of("IILoss", latent_dim=5)
    features, labels = batch()
    for _ in range(3):
        head.loss(features, labels)["loss"].backward()
        assert all(buffer.grad_fn is None for buffer in head.criterion.buffers())
    alone = head.loss(features, torch.zeros_like(labels))["loss"]
    assert float(alone.detach()) == 0.0
    features.vector.grad = None
    alone.backward()
    assert torch.isfinite(features.vector.grad).all()


@needs_library
def test_options_of_our_own_are_checked():
    assert head_of("CenterLoss", latent_dim=4).embedding(batch()[0]).shape == (12, 4)
    with pytest.raises(ConfigError, match="latent_dim must be at least 1"):
        head_of("MCHADLoss", latent_dim=0)
    with pytest.raises(ConfigError, match="has no option 'margin'"):
        head_of("MCHADLoss", margin=1.0)


@needs_library
@pytest.mark.parametrize("name", ["CACLoss", "IILoss"])
def test_a_run_with_a_loss_of_the_library(name, tiny, tmp_path, openset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = openset(
            "run", "-p", f"pytorch-ood:{name.lower()},tiny", "--protocol", "tiny-digits",
            "--out", tmp_path / "run", "--device", "cpu",
        )  # fmt: skip
    assert code == 0, err
    assert f"pytorch-ood:{name} on tiny" in out
    code, shown, _err = openset("show", tmp_path / "run")
    assert code == 0
    assert "max-logit" in shown
