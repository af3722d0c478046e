"""The runs of a figure: found, opened, and told apart by what they are.

A figure names the runs that it shows by the commands that make them. Runs that the user names are
matched to these by their loss, generator and the options of both; whatever is left over is shown
too, named by what it is. Where the user names none, the folders that the commands would make are
looked for.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from openset_core.errors import FigureError, OpensetError, RunFolderError
from openset_core.experiment import config
from openset_core.experiment.experiment import TRAINING_SECTION, Experiment, resolve
from openset_core.model.artefact import read_description
from openset_core.report.data import RunData, open_run
from openset_core.specs import FigureSpec, RequiredRun

DEFAULT_RUNS = Path("runs")
EXPERIMENT = "experiment.toml"
"""File by which a run folder is known."""


# --- what a figure needs --------------------------------------------------------------------------


@frozen(kw_only=True)
class Wanted:
    """A run that a figure needs, on the protocol that was chosen.

    Attributes:
        need: what the figure says.
        protocol: name or path of the protocol.
        settings: further assignments of the user's, as after `--set`.
    """

    need: RequiredRun
    protocol: str
    settings: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What makes the run, as it is typed."""
        words = ["openset", "run", "--plugins", ",".join(self.need.plugins)]
        words += ["--protocol", self.protocol]
        for assignment in (*self.need.options, *self.settings):
            words += ["--set", assignment]
        if self.need.trials is not None:
            words += ["--trials", self.need.trials]
        return shlex.join(words)

    def experiment(self, trial: int | None = None, protocol: str | None = None) -> Experiment:
        """The experiment that the command runs.

        Args:
            trial: number of the trial; the first by default.
            protocol: another protocol than the one chosen.

        Raises:
            OpensetError: a part, protocol or option that is not there.
        """
        overrides = config.parse_assignments((*self.need.options, *self.settings))
        return resolve(self.need.plugins, protocol or self.protocol, trial, overrides=overrides)

    def trials(self) -> list[int]:
        """Numbers of the trials."""
        if self.need.trials is None:
            return [0]
        if self.need.trials == "all":
            return list(range(self.experiment().protocol.trials))
        return [int(number) for number in self.need.trials.split(",")]

    def folders(self, root: Path) -> list[Path]:
        """The run folders that the command makes, below the folder of runs."""
        return [root / self.experiment(n).default_folder_name() for n in self.trials()]


def wanted_by(
    spec: FigureSpec, protocol: str | None = None, settings: Sequence[str] = ()
) -> list[Wanted]:
    """The runs that a figure needs.

    Args:
        spec: the figure.
        protocol: taken instead of the figure's own.
        settings: further assignments, as after `--set` of `openset run`.
    """
    return [
        Wanted(need=need, protocol=protocol or need.protocol, settings=tuple(settings))
        for need in spec.runs
    ]


# --- what there is --------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False)
class RunGroup:
    """Runs of one kind: the trials and seeds of one experiment.

    Attributes:
        label: what a figure calls them.
        runs: in order of trial and seed.
        needed: whether the figure asked for them.
    """

    label: str
    runs: tuple[RunData, ...]
    needed: bool

    @property
    def first(self) -> RunData:
        """The first trial."""
        return self.runs[0]


@frozen(kw_only=True, eq=False)
class FigureRuns:
    """The runs that a figure shows.

    Attributes:
        groups: those it needs in its order, then the others in the user's.
        missing: those it needs that are not there.
        left_out: how many runs of a folder of runs the figure did not ask for.
        unfinished: runs of a folder of runs that are not finished.
        data_root: folder of data sets, for images that a run does not keep yet.
    """

    groups: tuple[RunGroup, ...]
    missing: tuple[Wanted, ...] = ()
    left_out: int = 0
    unfinished: tuple[Path, ...] = ()
    data_root: Path = Path("data")

    @property
    def runs(self) -> list[tuple[str, RunData]]:
        """Every run with a label of its own."""
        named = []
        for group, label in zip(self.groups, self.labels(), strict=True):
            trials = len({run.results.trial for run in group.runs}) > 1
            seeds = len({run.results.seed for run in group.runs}) > 1
            for run in group.runs:
                words = [label]
                words += [f"trial {run.results.trial}"] if trials else []
                words += [f"seed {run.results.seed}"] if seeds else []
                named.append((", ".join(words), run))
        return named

    def labels(self, ignore: Iterable[str] = ()) -> list[str]:
        """A label for each group; what tells groups of the same name apart is added.

        Args:
            ignore: options, as `part.option`, that should not tell groups apart.
        """
        facts = [_facts(group.first) for group in self.groups]
        labels = []
        for number, group in enumerate(self.groups):
            same = [facts[i] for i, other in enumerate(self.groups) if other.label == group.label]
            told = _telling(same, ignore)
            labels.append(
                ", ".join([group.label, *(f"{k}={_text(facts[number].get(k))}" for k in told)])
            )
        return labels

    def series(self, ignore: str) -> dict[str, list[RunData]]:
        """Runs by label, where an option that is swept does not tell them apart.

        Args:
            ignore: the option, as `part.option` with `loss`, `generator` or `backbone` as part, or
                anything else for none.
        """
        found: dict[str, list[RunData]] = {}
        for group in self.groups:
            label = group.label if group.needed else _name(group.first, ignore)
            found.setdefault(label, []).extend(group.runs)
        return found

    def require(self, count: int) -> None:
        """Refuse fewer groups than a figure can be made from; says how to make the missing.

        Raises:
            FigureError: with the commands.
        """
        if len(self.groups) >= count:
            return
        have = len(self.groups)
        what = "no run is there" if not have else f"{have} of at least {count} runs are there"
        if not self.missing:
            raise FigureError(f"{what}; name run folders after the figure")
        lines = "\n".join(f"  {wanted.command}" for wanted in self.missing)
        raise FigureError(f"{what}; make one that is missing with\n{lines}")


@contextlib.contextmanager
def collected(
    spec: FigureSpec,
    paths: Sequence[Path] = (),
    *,
    protocol: str | None = None,
    settings: Sequence[str] = (),
    root: Path = DEFAULT_RUNS,
    data_root: Path = Path("data"),
) -> Iterator[FigureRuns]:
    """Find and open the runs of a figure; they stay open while the block runs.

    Args:
        spec: the figure.
        paths: run folders, or folders that hold some, of which those are taken that the figure
            asks for where there are any; without paths, the folders that the figure's commands
            make are looked for.
        protocol: taken instead of the figure's own.
        settings: further assignments of those commands.
        root: the folder of runs, where paths are not given.
        data_root: the folder of data sets.

    Raises:
        RunFolderError: a path that is no run, or is not finished.
    """
    wanted = wanted_by(spec, protocol, settings)
    with contextlib.ExitStack() as stack:
        runs: list[RunData] = []
        unfinished: list[Path] = []
        left_out = 0
        for path in paths or _made(wanted, root):
            if (path / EXPERIMENT).exists():
                runs.append(stack.enter_context(open_run(path)))
                continue
            inside = []
            for folder in run_folders([path]):
                try:
                    inside.append(stack.enter_context(open_run(folder)))
                except RunFolderError:  # one of many need not be finished
                    unfinished.append(folder)
            taken = _asked_for(wanted, inside)
            left_out += len(inside) - len(taken)
            runs += taken
        unique = {run.folder.path.resolve(): run for run in runs}
        yield evolve(
            _sorted(wanted, list(unique.values())),
            left_out=left_out,
            unfinished=tuple(unfinished),
            data_root=data_root,
        )


def _asked_for(wanted: Sequence[Wanted], runs: Sequence[RunData]) -> Sequence[RunData]:
    """Of many runs those that a figure asks for, on its protocol if there are any; else all."""
    fitting = [(item, run) for run in runs for item in wanted if fits(item, run)]
    same = [
        run
        for item, run in fitting
        if _resolved(item, item.protocol).protocol.reference == run.recorded.get("protocol")
    ]
    chosen = same or [run for _item, run in fitting] or runs
    return [run for run in runs if any(run is each for each in chosen)]


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """Run folders among these paths and below them.

    Raises:
        RunFolderError: a path that is none and holds none.
    """
    found: list[Path] = []
    for path in paths:
        here = [path] if (path / EXPERIMENT).exists() else _below(path)
        if not here:
            what = "holds no run folder" if path.is_dir() else "does not exist"
            raise RunFolderError(f"{path} {what}; name run folders, or folders that hold some")
        found += here
    return found


def _below(path: Path) -> list[Path]:
    inside = (item.parent for item in path.rglob(EXPERIMENT))
    return sorted(inside, key=lambda folder: [in_order(part) for part in folder.parts])


def in_order(text: str) -> list[tuple[str, int]]:
    """A key that puts names with numbers in order: `trial10` after `trial9`."""
    found = re.findall(r"([^0-9]*)([0-9]*)", text)
    return [(words, int(number or 0)) for words, number in found]


def _made(wanted: Sequence[Wanted], root: Path) -> list[Path]:
    """Finished runs in the folders that the commands make."""
    folders: list[Path] = []
    for item in wanted:
        with contextlib.suppress(OpensetError):  # a part that is not installed
            folders += [path for path in item.folders(root) if (path / "results.json").exists()]
    return list(dict.fromkeys(folders))


def is_made(wanted: Wanted, root: Path = DEFAULT_RUNS) -> bool:
    """Whether every run of a command is finished in its usual folder."""
    try:
        folders = wanted.folders(root)
    except OpensetError:
        return False
    return all((path / "results.json").exists() for path in folders)


# --- which is which -------------------------------------------------------------------------------


def _sorted(wanted: Sequence[Wanted], runs: Sequence[RunData]) -> FigureRuns:
    groups: dict[str, list[RunData]] = {}
    places: dict[str, int | None] = {}
    for run in runs:
        place = next((i for i, item in enumerate(wanted) if fits(item, run)), None)
        key = json.dumps([place, _facts(run)], sort_keys=True)
        groups.setdefault(key, []).append(run)
        places[key] = place
    made = []
    last = len(wanted)
    for key in sorted(groups, key=lambda key: last if (at := places[key]) is None else at):
        at = places[key]
        members = sorted(groups[key], key=lambda run: (run.results.trial, run.results.seed))
        label = _name(members[0]) if at is None else wanted[at].need.label
        made.append(RunGroup(label=label, runs=tuple(members), needed=at is not None))
    there = set(places.values())
    missing = tuple(item for i, item in enumerate(wanted) if i not in there)
    return FigureRuns(groups=tuple(made), missing=missing)


def fits(wanted: Wanted, run: RunData) -> bool:
    """Whether a run has the loss, the generator and their options that a figure asks for.

    The protocol and the backbone may differ: a figure can be made for other data.
    """
    try:
        experiment = _on_protocol_of(wanted, run)
    except OpensetError:
        return False
    if experiment.method != run.results.method:
        return False
    selection = experiment.selection
    for part in (selection.loss, *([selection.generator] if selection.generator else [])):
        asked = config.unstructure(experiment.options[part.name])
        has = run.recorded.get(part.name, {})
        if any(asked[name] != has[name] for name in asked.keys() & has.keys()):
            return False
    return True


def _on_protocol_of(wanted: Wanted, run: RunData) -> Experiment:
    """The experiment asked for on a run's own protocol, whose options it shares; where that file
    is gone, on the figure's."""
    with contextlib.suppress(OpensetError):
        return _resolved(wanted, str(run.recorded.get("protocol", "")))
    return _resolved(wanted, wanted.protocol)


@cache
def _resolved(wanted: Wanted, protocol: str) -> Experiment:
    return wanted.experiment(protocol=protocol)


def _facts(run: RunData) -> dict[str, Any]:
    """What decides a run, by `part.option`, trial and seed aside."""
    recorded = run.recorded
    facts: dict[str, Any] = {
        "method": run.results.method,
        "backbone": run.results.backbone,
        "protocol": Path(str(recorded.get("protocol", ""))).stem,
    }
    for section in (*method_parts(run), run.results.backbone, TRAINING_SECTION):
        values: Mapping[str, Any] = recorded.get(section, {})
        facts.update({f"{section}.{name}": value for name, value in values.items()})
    return facts


def _telling(facts: Sequence[Mapping[str, Any]], ignore: Iterable[str]) -> list[str]:
    """What tells runs apart: a single fact if one does, else some of those that differ."""
    if len(facts) == 1:
        return []
    kinds = {
        key: len({json.dumps(each.get(key)) for each in facts})
        for key in sorted(set().union(*facts) - set(ignore))
    }
    enough = [key for key, count in kinds.items() if count == len(facts)]
    return enough[:1] or [key for key, count in kinds.items() if count > 1][:3]


def method_parts(run: RunData) -> tuple[str, ...]:
    """Names of a run's loss and, where it has one, of its generator."""
    method = run.results.method
    for name in run.recorded:
        if method == name:
            return (name,)
        if method.startswith(f"{name}+") and method[len(name) + 1 :] in run.recorded:
            return name, method[len(name) + 1 :]
    return (method,)


def option_of(run: RunData, name: str) -> tuple[str, str, Any]:
    """An option of a run by `part.option`: section, option and value, None where there is none.

    `loss`, `generator` and `backbone` stand for the run's own parts.
    """
    section, _, option = name.rpartition(".")
    parts = method_parts(run)
    named = {"loss": parts[0], "generator": parts[-1], "backbone": run.results.backbone}
    section = named.get(section, section)
    return section, option, dict(run.recorded.get(section, {})).get(option)


def _name(run: RunData, ignore: str = "") -> str:
    """What a run is: its method, with the options that are not as its protocol has them."""
    usual = _usual(run)
    swept = option_of(run, ignore)[:2]
    changed = [
        f"{name}={_text(value)}"
        for section in method_parts(run)
        for name, value in dict(run.recorded.get(section, {})).items()
        if usual.get(section, {}).get(name, value) != value and (section, name) != swept
    ]
    return ", ".join([run.results.method, *changed])


def _usual(run: RunData) -> dict[str, Any]:
    """The options that a run's parts have on its protocol when nobody sets them."""
    recorded = run.recorded
    parts = [name for name in recorded.get("plugins", ()) if name not in run.scorers]
    for protocol in (str(recorded.get("protocol", "")), None):
        with contextlib.suppress(OpensetError):
            return resolve(parts, protocol).to_toml()
    return {}


def _text(value: Any) -> str:
    """A value as after `--set`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return "nothing" if value is None else str(value)


# --- what figures ask of a run --------------------------------------------------------------------


def own_scorer(run: RunData) -> str:
    """The scorer that decides in a run: the method's own where it was chosen.

    Raises:
        FigureError: no scores are there.
    """
    with contextlib.suppress(OpensetError):
        own = read_description(run.folder.model).scorer
        if own in run.scored:
            return own
    if not run.scored:
        raise FigureError(
            f"{run.folder.path} holds no scores of its samples; `openset score {run.folder.path}` "
            "makes them"
        )
    return run.scored[0]


def chosen_scorer(run: RunData, wish: str) -> str:
    """The scorer that a figure's option names; `own` for the one that decides.

    Raises:
        FigureError: the run has no such scorer.
    """
    if wish == "own":
        return own_scorer(run)
    if wish not in run.scored:
        raise FigureError(
            f"{run.folder.path} has no scores of {wish}, it has {', '.join(run.scored) or 'none'}; "
            f"`openset score {run.folder.path} --plugins {wish}` adds them"
        )
    return wish
