"""Checks of unknown scorers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.errors import OpensetError
from openset_core.scorer import Array, FeatureTable, UnknownScorer
from openset_core.testing.component_under_test import ComponentUnderTest
from openset_core.testing.report import Checks, fail, not_applicable

CHECKS = Checks("scorer")

ARRAYS = ("embedding", "logits", "label", "index")
CLASSES = 4
WIDTH = 12
EASY_AUROC = 0.75
"""What a scorer must reach on unknown samples that lie far from the training samples."""


# --- features to score ----------------------------------------------------------------------


def features(
    count: int = 240, *, unknown: bool = False, seed: int = 0, classes: int = CLASSES
) -> dict[str, Array]:
    """Features as a well-trained network gives them: training samples in narrow clusters, one a
    class, with one high logit; unknown ones between the clusters and away from them all, with low
    and nearly equal logits."""
    draw = np.random.default_rng(seed + 1000 * unknown)
    labels = np.arange(count) % classes
    centres = 4.0 * np.eye(classes, WIDTH)
    directions = np.zeros(WIDTH)
    directions[-2:] = 5.0
    noise = draw.normal(size=(count, WIDTH)) * 0.3
    embedding = noise + (directions if unknown else centres[labels])
    logits = embedding @ centres.T / 2 + 0.1 * np.arange(classes)  # a linear classifier
    return {
        "embedding": embedding.astype(np.float32),
        "logits": logits.astype(np.float32),
        "label": labels.astype(np.int64),
        "index": np.arange(count, dtype=np.int64),
    }


@attrs.frozen
class Source:
    """Training features that hand out the declared arrays only, a few rows at a time."""

    table: Mapping[str, Array]
    reads: tuple[str, ...]
    num_classes: int = CLASSES
    size: int = 1000

    @property
    def rows(self) -> int:
        return len(self.table["label"])

    def chunks(self, *arrays: str) -> Iterator[FeatureTable]:
        for name in arrays:
            if name not in self.reads:
                fail(f"fit asks for {name!r}, which is not in reads={self.reads!r}")
        for start in range(0, self.rows, self.size):
            yield {n: self.table[n][start : start + self.size].copy() for n in arrays}


def build(component: ComponentUnderTest) -> UnknownScorer:
    """An unfitted scorer; skips where it reads arrays that the kit does not have."""
    scorer = component.make(UnknownScorer)
    extra = [name for name in scorer.reads if name not in ARRAYS]
    if extra:
        not_applicable(f"it reads {', '.join(extra)}, which only some losses provide")
    return scorer


def fitted(
    component: ComponentUnderTest, table: Mapping[str, Array] | None = None, **how: Any
) -> UnknownScorer:
    scorer = build(component)
    scorer.fit(Source(features() if table is None else table, tuple(scorer.reads), **how))
    return scorer


class _Table(dict[str, Array]):
    """A table that fails the check when an array is asked for that was not declared."""

    def __missing__(self, name: str) -> Array:
        fail(f"score asks for {name!r}, which is not in reads={tuple(self)!r}")


def scores_of(
    scorer: UnknownScorer, table: Mapping[str, Array], what: str = "scores"
) -> npt.NDArray[np.float64]:
    """Scores of a table, which must be float64 [n] and finite."""
    handed = _Table({name: table[name].copy() for name in scorer.reads})
    scores = scorer.score(handed)
    rows = len(table["label"])
    if not isinstance(scores, np.ndarray):
        fail(f"score returned a {type(scores).__name__}, not a NumPy array")
    if scores.shape != (rows,) or scores.dtype != np.float64:
        fail(f"{what} of {rows} samples are {scores.dtype} {list(scores.shape)}")
    if not np.isfinite(scores).all():
        fail(f"{what} hold NaN or infinite values")
    for name, values in handed.items():
        if not np.array_equal(values, table[name]):
            fail(f"score changed the array {name!r} in place")
    return scores


# --- checks ---------------------------------------------------------------------------------


@CHECKS
def scorer_builds(component: ComponentUnderTest) -> None:
    """The factory builds an UnknownScorer whose `reads` is a tuple of array names."""
    scorer = component.make(UnknownScorer)
    if not isinstance(scorer.reads, tuple) or not scorer.reads:
        fail(f"reads is {scorer.reads!r}")


@CHECKS
def needs_and_reads_agree(component: ComponentUnderTest) -> None:
    """needs names what the scorer reads of `logits` and `embedding`, and nothing of them that it
    does not read."""
    reads, needs = set(component.make(UnknownScorer).reads), set(component.spec.needs)
    for word in ("logits", "embedding"):
        if word in needs and word not in reads:
            fail(f"needs says {word!r}, reads={tuple(sorted(reads))!r} does not")
        if word in reads and word not in needs:
            fail(f"reads says {word!r}, needs={tuple(sorted(needs))!r} does not")


@CHECKS
def reads_is_true(component: ComponentUnderTest) -> None:
    """fit and score use no array that `reads` does not name."""
    scores_of(fitted(component), features(20))


@CHECKS
def scores_have_the_right_form(component: ComponentUnderTest) -> None:
    """Scores are float64 [n] and finite, one sample included."""
    scorer = fitted(component)
    for rows in (1, 20):
        scores_of(scorer, features(rows))
        scores_of(scorer, features(rows, unknown=True))


@CHECKS
def unknown_scores_higher(component: ComponentUnderTest) -> None:
    """Higher means more unknown: samples between and far from all classes, with low and equal
    logits, score higher than training samples."""
    scorer = fitted(component)
    known = scores_of(scorer, features(100, seed=1))
    unknown = scores_of(scorer, features(100, unknown=True, seed=1))
    higher = (unknown[:, None] > known).mean() + 0.5 * (unknown[:, None] == known).mean()
    if higher < EASY_AUROC:
        advice = "; the sign is turned" if higher < 1 - EASY_AUROC else ""
        fail(f"AUROC {higher:.2f} where {EASY_AUROC} is easy{advice}")


@CHECKS
def chunks_give_what_the_whole_gives(component: ComponentUnderTest) -> None:
    """Fitting on chunks and scoring chunks gives what the whole table gives."""
    table = features(60, seed=2)
    whole = scores_of(fitted(component), table)
    scorer = fitted(component, size=17)
    _compare(whole, scores_of(scorer, table), "fitted on the whole and in chunks of 17")
    pieces = [
        scores_of(scorer, {name: values[start : start + 7] for name, values in table.items()})
        for start in range(0, 60, 7)
    ]
    _compare(whole, np.concatenate(pieces), "scored as a whole and in chunks of 7")


def _compare(first: Array, second: Array, what: str, share: float = 1e-5) -> None:
    spread = max(float(np.abs(first).max()), 1e-9)
    worst = float(np.abs(first - second).max())
    if not worst <= share * spread:
        fail(f"{what}, scores differ by {worst:.3g}, where they reach {spread:.3g}")


@CHECKS
def rows_are_independent(component: ComponentUnderTest) -> None:
    """A sample's score depends neither on its neighbours nor on its place in the table."""
    scorer = fitted(component)
    table = features(40, seed=3)
    turned = {name: values[::-1] for name, values in table.items()}
    _compare(scores_of(scorer, table), scores_of(scorer, turned)[::-1], "in another order")


@CHECKS
def fitting_is_deterministic(component: ComponentUnderTest) -> None:
    """Two fits on the same features give the same scores, whatever NumPy's global random state,
    which is left alone."""
    table = features(40, seed=4)
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    first = scores_of(fitted(component), table)
    if np.random.get_state()[1].tolist() != before:  # type: ignore[index,union-attr]
        fail("it draws from NumPy's global random state; use np.random.default_rng(seed)")
    np.random.seed(2)
    _compare(first, scores_of(fitted(component), table), "fitted twice", 0.0)


@CHECKS
def state_restores_what_was_fitted(component: ComponentUnderTest) -> None:
    """state() is a dict of NumPy arrays that safetensors can hold; a new scorer that restores it
    gives the same scores."""
    scorer = fitted(component)
    state = scorer.state()
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        fail(f"state() returned { ({name: type(v).__name__ for name, v in dict(state).items()})!r}")
    fresh = build(component)
    from safetensors.numpy import load, save

    try:
        written = save({name: np.ascontiguousarray(array) for name, array in state.items()})
    except Exception as error:
        fail(f"safetensors cannot hold the state: {error}")
    fresh.restore(load(written))
    for unknown in (False, True):
        table = features(40, unknown=unknown, seed=5)
        try:
            after = scores_of(fresh, table)
        except (AttributeError, RuntimeError, KeyError) as error:
            fail(f"after restore, score raised {type(error).__name__}: {error}")
        _compare(scores_of(scorer, table), after, "fitted and restored", 0.0)


@CHECKS
def extreme_features_give_finite_scores(component: ComponentUnderTest) -> None:
    """Scores are finite for huge and for equal logits, for huge and for zero embeddings."""
    scorer = fitted(component)
    table = features(12)
    for factor in (0.0, 1.0, 1e4):
        for shift in (-1e4, 0.0, 1e4):
            extreme = dict(table)
            for name in ("embedding", "logits"):
                extreme[name] = (factor * table[name] + shift).astype(np.float32)
            scores_of(scorer, extreme, f"scores of features times {factor:g} plus {shift:g}")


@CHECKS
def odd_training_features_work_or_are_refused(component: ComponentUnderTest) -> None:
    """Training features that are all equal, one sample a class, or a class without samples either
    give finite scores or are refused with a ValueError or OpensetError of one sentence."""
    plain = features(80)
    equal = dict(plain)
    for name in ("embedding", "logits"):
        equal[name] = np.ones_like(plain[name])
    cases = {
        "features that are all equal": equal,
        "one sample a class": {name: values[:CLASSES] for name, values in plain.items()},
        "a class without samples": {n: v[plain["label"] != 1] for n, v in plain.items()},
    }
    for what, table in cases.items():
        try:
            scorer = fitted(component, table)
        except (ValueError, OpensetError) as error:
            if not str(error) or "\n" in str(error):
                fail(f"fitted on {what} it raises {error!r}, which is not one sentence")
            continue
        except (ArithmeticError, LookupError, TypeError, RuntimeError) as error:
            fail(f"fitted on {what} it raises {type(error).__name__}: {error}")
        scores_of(scorer, features(12), f"scores after fitting on {what}")


@CHECKS
def any_number_of_classes_works(component: ComponentUnderTest) -> None:
    """Two classes work as well as ten."""
    for classes in (2, 10):
        table = features(120, classes=classes)
        scorer = fitted(component, table, num_classes=classes)
        scores_of(scorer, features(20, classes=classes), f"scores with {classes} classes")


@CHECKS
def probabilities_are_probabilities(component: ComponentUnderTest) -> None:
    """probabilities() is None, or float64 [n, K+1] with rows in [0, 1] that sum to 1."""
    scorer = fitted(component)
    table = features(20)
    values = scorer.probabilities({name: table[name] for name in scorer.reads})
    if values is None:
        return
    if values.shape != (20, CLASSES + 1) or values.dtype != np.float64:
        fail(f"they are {values.dtype} {list(values.shape)} for {CLASSES} classes")
    sums = values.sum(axis=1)
    if values.min() < 0 or values.max() > 1 or not np.allclose(sums, 1.0):
        fail(f"they lie in [{values.min():.3g}, {values.max():.3g}], sums {sums[:3]}")


@CHECKS
def torch_module_gives_the_same_scores(component: ComponentUnderTest) -> None:
    """torch_module() is None, or a torch module that gives the scores of `score` for float32
    arrays of any number of rows, as float64 [n]; what was fitted lies in its buffers, so that it
    can be moved to another device."""
    import torch
    from torch import nn

    from openset_core.testing.tensors import expect_tensor, tensor_text

    scorer = fitted(component)
    module = scorer.torch_module()
    if module is None:
        not_applicable("it has no torch module, so that models with it cannot be exported")
    if not isinstance(module, nn.Module):
        fail(f"torch_module() returned a {type(module).__name__}")
    module.eval()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    for device in filter(None, (torch.device("cpu"), accelerator)):
        module.to(device)
        for rows, unknown in ((1, False), (20, False), (20, True)):
            table = features(rows, unknown=unknown, seed=6)
            with torch.no_grad():
                scores = module(
                    {n: torch.from_numpy(table[n]).to(device) for n in ("embedding", "logits")}
                )
            if not isinstance(scores, torch.Tensor) or scores.dtype != torch.float64:
                fail(f"it returned {tensor_text(scores)} for {rows} rows")
            expect_tensor(scores, f"its scores of {rows} rows", (rows,))
            if scores.device.type != device.type:
                fail(f"its scores lie on {scores.device}, not on {device}")
            _compare(
                scores_of(scorer, table), scores.cpu().numpy(), "by score and by the torch module"
            )
