"""What a bench ends with: the comparison of its runs, as tables and files."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from openset_core.benching.folder import BenchFolder
from openset_core.benching.plan import Plan
from openset_core.benching.status import FAILED, BenchStatus
from openset_core.errors import ConfigError
from openset_core.experiment.environment import library_versions
from openset_core.files import write_text
from openset_core.results import tables
from openset_core.results.comparison import export
from openset_core.results.comparison.comparison import Comparison, compare_runs, find_method
from openset_core.results.comparison.model import Method
from openset_core.results.comparison.runs import RunCollection, read_run
from openset_core.results.comparison.tables import comparison_tables


@attrs.frozen(kw_only=True)
class FailedRun:
    title: str  # method, protocol, trial and seed
    name: str  # of its run folder
    reason: str


def failed_runs(status: BenchStatus) -> tuple[FailedRun, ...]:
    return tuple(
        FailedRun(title=run.planned.title, name=run.planned.name, reason=run.reason)
        for run in status.in_state(FAILED)
    )


def compare_bench(
    folder: BenchFolder, plan: Plan, failed: Sequence[FailedRun] = ()
) -> Comparison | None:
    """Compare the runs of a bench that did not fail; None where there are none."""
    names = {run.name for run in failed}
    runs = tuple(
        read_run(folder.run(planned), planned.shown)
        for planned in plan.runs
        if planned.name not in names
    )
    if not runs:
        return None
    comparison = compare_runs(RunCollection(runs))
    try:
        reference = find_method(comparison.methods, plan.file.reference)
    except ConfigError:
        note = (
            f"{plan.file.reference} has no finished run; the others are compared with "
            f"{comparison.reference.title} instead"
        )
        return attrs.evolve(comparison, notes=(note, *comparison.notes))
    return attrs.evolve(comparison, reference=reference)


def check_reference(plan: Plan) -> None:
    """Refuse a reference that no method can be, before anything runs."""
    wanted = plan.file.reference
    methods = []
    for planned in plan.runs:
        selection = planned.experiment.selection
        components = (selection.loss, selection.generator, selection.backbone)
        name = planned.shown or ",".join(c.name for c in components if c)
        methods += [Method(name=name, scorer=scorer.name) for scorer in selection.scorers]
    methods = list(dict.fromkeys(methods))
    # Variants of a method get longer names in the tables, by what differs between them.
    variants = tuple(f"{method.name} {mark}" for method in methods for mark in "(#")
    if wanted and not wanted.startswith(variants):
        find_method(methods, wanted)


def _heading(plan: Plan, comparison: Comparison) -> str:
    compared, repeated = plan.extent()
    versions = library_versions()
    devices = {
        f"{device['name']}, {device['precision']}"
        for place in comparison.runs
        if (device := place.run.record.get("device"))
    }
    return (
        f"# {compared}\n\n{repeated}; on {' and '.join(sorted(devices))}; "
        f"openset {versions['openset']}, torch {versions['torch']}. "
        "Repeat it with `openset bench bench.toml`.\n\n"
    )


def save(
    folder: BenchFolder, plan: Plan, comparison: Comparison, failed: Sequence[FailedRun]
) -> None:
    shown = comparison_tables(comparison)
    notes = [*(f"failed: {run.title}: {run.reason}" for run in failed), *comparison.notes]
    record = {"bench": plan.file.asked(), "failed": [attrs.asdict(run) for run in failed]}
    texts = {
        "results.md": _heading(plan, comparison) + tables.markdown(shown, notes),
        "results.tex": tables.latex(shown, notes),
        "results.csv": export.to_csv(export.summary_records(comparison)),
        "differences.csv": export.to_csv(export.difference_records(comparison)),
        "runs.csv": export.to_csv(export.run_records(comparison)),
        "results.json": export.to_json(comparison, **record),
    }
    for name, text in texts.items():
        write_text(folder.path / name, text)
