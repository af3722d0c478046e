"""Checks of figures."""

from __future__ import annotations

from openset_core.errors import FigureError
from openset_core.testing import options
from openset_core.testing.component_under_test import Subject
from openset_core.testing.report import Checks, fail

FIGURE_CHECKS = Checks()

for check in (
    options.spec_is_described,
    options.spec_names_the_hook_api,
    options.factory_is_lazy,
    options.factory_loads,
    options.options_have_defaults,
    options.options_are_frozen,
    options.options_have_help,
    options.options_survive_toml,
    options.options_survive_pickling,
):
    FIGURE_CHECKS(check)


@FIGURE_CHECKS
def runs_can_be_made(subject: Subject) -> None:
    """Every run that the figure asks for is an experiment: parts, protocol, options and trials
    exist."""
    from openset_core.report.figures.runs import wanted_by

    for wanted in wanted_by(subject.spec):
        for trial in wanted.trials():
            wanted.experiment(trial)


@FIGURE_CHECKS
def runs_are_told_apart(subject: Subject) -> None:
    """No two of the runs are the same experiment."""
    from openset_core.report.figures.runs import wanted_by

    seen: dict[str, str] = {}
    for wanted in wanted_by(subject.spec):
        digest = wanted.experiment().digest
        if digest in seen:
            fail(f"{wanted.command} and {seen[digest]} are one experiment")
        seen[digest] = wanted.command


@FIGURE_CHECKS
def missing_runs_are_refused(subject: Subject) -> None:
    """Without any run the figure is refused, with the command of each that it asks for."""
    from openset_core.report.figures.picture import draw
    from openset_core.report.figures.runs import FigureRuns, wanted_by

    missing = tuple(wanted_by(subject.spec))
    try:
        draw(subject.spec, subject.options, FigureRuns(groups=(), missing=missing))
    except FigureError as error:
        for wanted in missing:
            if wanted.command not in str(error):
                fail(f"the refusal does not name {wanted.command}")
        return
    fail("it was drawn without a run; least must be 1 or more")
