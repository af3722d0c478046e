"""What draws a figure is given and returns: `factory(config, FigureRuns) -> FigureResult`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from openset_core.errors import FigureError, OpensetError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.experiment import Experiment, resolve
from openset_core.metrics import METRICS
from openset_core.model.artefact import deciding_scorer, own_scorer
from openset_core.report.charts.feature_space import thinning
from openset_core.report.charts.output import Chart, specification
from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.results.comparison.runs import (
    distinguishing,
    method_components,
    option_of,
    option_text,
    options,
    protocol_name,
)
from openset_core.results.tables import Column, Table
from openset_core.specs import RequiredRun

Cell = str | int | float | None


@frozen(kw_only=True)
class ResolvedRun:
    """A run that a figure requires, on the protocol that was chosen.

    Attributes:
        required: what the figure says.
        protocol: name or path of the protocol.
        settings: further assignments by the user, as after `--set`.
    """

    required: RequiredRun
    protocol: str
    settings: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What makes the run, as it is typed."""
        words = ["openset", "run", "--plugins", ",".join(self.required.plugins)]
        words += ["--protocol", self.protocol]
        for assignment in (*self.required.options, *self.settings):
            words += ["--set", assignment]
        if self.required.trials is not None:
            words += ["--trials", self.required.trials]
        return shlex.join(words)

    def experiment(self, trial: int | None = None, protocol: str | None = None) -> Experiment:
        """The experiment that the command runs, of the first trial and the chosen protocol by
        default; raises OpensetError for what does not exist."""
        overrides = config.parse_assignments((*self.required.options, *self.settings))
        return resolve(self.required.plugins, protocol or self.protocol, trial, overrides=overrides)

    def trials(self) -> list[int]:
        """Numbers of the trials."""
        if self.required.trials is None:
            return [0]
        if self.required.trials == "all":
            return list(range(self.experiment().protocol.trials))
        return [int(number) for number in self.required.trials.split(",")]

    def folders(self, root: Path) -> list[Path]:
        """The run folders that the command makes, below the folder of runs."""
        return [root / self.experiment(n).default_folder_name() for n in self.trials()]


@frozen(kw_only=True, eq=False)
class RunGroup:
    """Runs that differ in trial and seed alone.

    Attributes:
        runs: in order of trial and seed.
        label: what the figure calls them; empty for runs that it does not require.
    """

    runs: tuple[RunData, ...]
    label: str = ""

    @property
    def first(self) -> RunData:
        """The first trial."""
        return self.runs[0]

    def name(self, ignore: str = "") -> str:
        """The label, else the method and its options that are not the protocol's own, without the
        one to ignore."""
        if self.label:
            return self.label
        run = self.first
        usual = _usual_options(run)
        swept = option_of(run, ignore)[:2]
        changed = [
            f"{name}={option_text(value)}"
            for section in method_components(run)
            for name, value in run.recorded.get(section, {}).items()
            if usual.get(section, {}).get(name, value) != value and (section, name) != swept
        ]
        return ", ".join([run.results.method, *changed])

    def identity(self) -> dict[str, Any]:
        """What tells these runs from others."""
        results = self.first.results
        facts = {"method": results.method, "backbone": results.backbone}
        return {**facts, "protocol": protocol_name(self.first), **options(self.first)}


def _usual_options(run: RunData) -> dict[str, Any]:
    """The options that a run's components have on its protocol when nobody sets them."""
    components = [name for name in run.recorded.get("plugins", ()) if name not in run.scorers]
    for protocol in (str(run.recorded.get("protocol", "")), None):
        with contextlib.suppress(OpensetError):
            return resolve(components, protocol).to_toml()
    return {}


@frozen(kw_only=True, eq=False)
class FigureRuns:
    """The runs that a figure shows.

    Attributes:
        groups: those it requires in its order, then the others in the user's.
        missing: those it requires that are not there.
        left_out: how many runs of a folder of runs the figure did not ask for.
        unfinished: runs of a folder of runs that are not finished.
        data_root: folder of data sets, for images that a run does not keep yet.
    """

    groups: tuple[RunGroup, ...]
    missing: tuple[ResolvedRun, ...] = ()
    left_out: int = 0
    unfinished: tuple[Path, ...] = ()
    data_root: Path = Path("data")

    @property
    def runs(self) -> list[tuple[str, RunData]]:
        """Every run with a label of its own."""
        labelled = []
        for group, label in zip(self.groups, self.labels(), strict=True):
            trials = len({run.results.trial for run in group.runs}) > 1
            seeds = len({run.results.seed for run in group.runs}) > 1
            for run in group.runs:
                words = [label]
                words += [f"trial {run.results.trial}"] if trials else []
                words += [f"seed {run.results.seed}"] if seeds else []
                labelled.append((", ".join(words), run))
        return labelled

    def labels(self) -> list[str]:
        """A label for each group; options that tell groups of the same name apart are added."""
        names = [group.name() for group in self.groups]
        identities = [group.identity() for group in self.groups]
        labels = []
        for name, identity in zip(names, identities, strict=True):
            same = [other for other, own in zip(identities, names, strict=True) if own == name]
            added = distinguishing(same)
            labels.append(
                ", ".join([name, *(f"{key}={option_text(identity.get(key))}" for key in added)])
            )
        return labels

    def series(self, ignore: str) -> dict[str, list[RunData]]:
        """Runs by label, where an option `component.option` that is swept does not tell them apart;
        `loss`, `generator` and `backbone` stand for a run's own components."""
        series: dict[str, list[RunData]] = {}
        for group in self.groups:
            series.setdefault(group.name(ignore), []).extend(group.runs)
        return series

    def require(self, count: int) -> None:
        """Refuse fewer groups than a figure can be made from, with the commands that make more."""
        there = len(self.groups)
        if there >= count:
            return
        what = "no run is there" if not there else f"{there} of at least {count} runs are there"
        if not self.missing:
            raise FigureError(f"{what}; name run folders after the figure")
        lines = "\n".join(f"  {run.command}" for run in self.missing)
        raise FigureError(f"{what}; make one that is missing with\n{lines}")


@frozen(kw_only=True, eq=False)
class FigureResult:
    """A figure that was made; a notebook shows its chart.

    Attributes:
        chart: what was drawn; its description says what the figure shows to somebody who cannot
            see it.
        caption: what it shows, how many samples of what, and by which score; plain text.
        columns: headers of the table of the numbers that it shows.
        rows: the numbers, as many in each row as there are columns; None for an empty cell.
        notes: what is to be known of these very runs, a sentence each.
        runs: the runs that it was made from; their feature stores are closed by now.
        files: what was written.
    """

    chart: Chart
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()
    runs: FigureRuns = FigureRuns(groups=())
    files: tuple[Path, ...] = ()

    @property
    def missing(self) -> tuple[ResolvedRun, ...]:
        """The runs that it would show, too, had they been there."""
        return self.runs.missing

    @property
    def table(self) -> Table:
        """The numbers, with those columns flush left that hold words."""
        columns = [
            Column(title, left=any(isinstance(row[number], str) for row in self.rows))
            for number, title in enumerate(self.columns)
        ]
        return Table(columns=tuple(columns), rows=self.rows)

    def _repr_mimebundle_(self, *_arguments: Any, **_options: Any) -> Any:
        """The chart, in a notebook."""
        import altair

        spec = specification(self.chart)
        return altair.renderers.get()(spec)  # type: ignore[misc]


# --- what figures ask of a run --------------------------------------------------------------------


def known_split(run: RunData) -> TestSplit:
    """The known test samples; raises FigureError for a run without features."""
    if run.known is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    return run.known


def check_plane(run: RunData) -> None:
    """Refuse a run whose embedding does not have two dimensions."""
    width = run.embedding(known_split(run), np.arange(1)).shape[1]
    if width != 2:
        raise FigureError(
            f"{run.folder.path} has an embedding of {width} numbers, this figure shows the plane "
            "of two; train it on a backbone whose vector has two, such as one with an option "
            "feature_dim=2"
        )


def drawn(split: TestSplit, samples: int, seed: int) -> Integers:
    """Rows of a split, at most so many, drawn by a seed, ascending."""
    if len(split) <= samples:
        return np.arange(len(split))
    return np.sort(np.random.default_rng(seed).choice(len(split), samples, replace=False))


def landmark_note(run: RunData) -> str:
    """What is to be said of a run that does not record whether its loss keeps landmarks."""
    if run.store is None or run.store.describes_loss:
        return ""
    return (
        f"{run.folder.features} is older than landmarks, so that none are shown; `openset extract "
        f"{run.folder.path} --rebuild` adds them"
    )


def thinning_note(points: int) -> tuple[str, ...]:
    """What is to be said where a plane of so many points draws only some of them."""
    step = thinning(points)
    said = f"of up to {points:,} points a panel one in {step} is drawn, so that files stay small"
    return (said,) if step > 1 else ()


def chosen_scorer(run: RunData, name: str) -> str:
    """The scorer that a figure's option names; `own` for the one that decides in the run.

    Raises:
        FigureError: the run has no such scores.
    """
    path = run.folder.path
    if name != "own":
        if name in run.scored:
            return name
        raise FigureError(
            f"{path} has no scores of {name}, it has {', '.join(run.scored) or 'none'}; "
            f"`openset score {path} --plugins {name}` adds them"
        )
    if not run.scored:
        raise FigureError(
            f"{path} holds no scores of its samples; `openset score {path}` makes them"
        )
    return deciding_scorer(own_scorer(run.folder.model), run.scored)


def unknown_set(run: RunData, name: str) -> str | None:
    """Name of the unknown set that a figure's option names: `all` (gives None), `first` or a name.

    Raises:
        FigureError: the run has no such set.
    """
    names = [split.name for split in run.unknown]
    if name == "all":
        return None
    if name == "first" and names:
        return names[0]
    if name not in names:
        raise FigureError(
            f"{run.folder.path} has no unknown set {name!r}{did_you_mean(name, names)}; it has "
            f"{', '.join(names) or 'none'}"
        )
    return name


def metric_title(metric: str) -> str:
    """What an axis calls a metric, which is shown in percent.

    Raises:
        FigureError: there is no such metric.
    """
    if metric not in METRICS:
        raise FigureError(
            f"no metric is called {metric!r}{did_you_mean(metric, METRICS)}; there are "
            f"{', '.join(METRICS)}"
        )
    return f"{METRICS[metric].title} (%)"


def percent(value: float) -> float:
    """A fraction as percent with the two digits that papers print, for tables."""
    return round(100.0 * value, 2)
