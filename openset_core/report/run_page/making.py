"""From a run folder to report.html and figures/."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import quote, unquote

from attrs import frozen

from openset_core import __version__
from openset_core.errors import ConfigError, OpensetError, did_you_mean
from openset_core.files import sha256, write_text
from openset_core.report.data import RunData, open_run
from openset_core.report.embedding import map_of
from openset_core.report.figure_cache import images_of, kept_images
from openset_core.report.page import Page, inputs_in, render_page
from openset_core.report.run_page import (
    confusion,
    curves,
    gallery,
    histograms,
    overview,
    samples,
    scatter,
    scores_table,
    training,
)
from openset_core.report.run_page.view import View, deciding_scorer
from openset_core.run_folder import RunFolder

FORMAT = 1
"""Raised when pages made before should be made again."""

TOPICS = (curves, histograms, confusion, scatter, gallery, training, samples)
"""What a page shows after the results, in order; each has `section` and `figures`."""


@frozen(kw_only=True)
class Report:
    """What was made of a run.

    Attributes:
        page: report.html.
        figures: PNG and SVG files, by name.
        remarks: what could not be shown, and why, in one sentence each.
    """

    page: Path
    figures: tuple[Path, ...]
    remarks: tuple[str, ...]


def make_report(
    path: Path,
    *,
    scorer: str | None = None,
    figures: bool = True,
    data_root: Path | None = None,
) -> Report:
    """Make the page of a finished run, and its figures.

    Recorded data is all that is needed; images of the galleries come from the data sets the first
    time, and are kept in the run folder.

    Args:
        path: the run folder.
        scorer: whose decisions the confusion matrix and the galleries show; by default the one
            that decides in the saved model.
        figures: whether to write figures/ too.
        data_root: folder of data sets.

    Raises:
        RunFolderError: not a finished run; says which command goes on with it.
        ConfigError: the run has no such scorer.
        StoreError: the feature store is damaged.
    """
    with open_run(path) as run:
        view = _view(run, scorer, data_root)
        sections = [scores_table.section(view), overview.what_was_run(view)]
        sections += [made for topic in TOPICS if (made := topic.section(view)) is not None]
        sections.append(overview.everything_recorded(view))
        page = Page(
            kind="Run",
            title=run.title,
            subtitle=overview.subtitle(view),
            lead=overview.lead(view),
            sections=sections,
            footer=f"Made from what {path.resolve().name} recorded, by openset {__version__}.",
            inputs=inputs_of(path, scorer or ""),
        )
        text = render_page(page)
        written = _write_figures(view) if figures else ()
    write_text(run.folder.report, text)
    return Report(page=run.folder.report, figures=written, remarks=view.remarks)


def _view(run: RunData, scorer: str | None, root: Path | None) -> View:
    if scorer is not None and scorer not in run.scorers:
        raise ConfigError(
            f"{run.folder.path} has no scorer {scorer!r}"
            f"{did_you_mean(scorer, run.scorers) or '; it has ' + ', '.join(run.scorers)}"
            " (`openset score RUN --plugins NAME` adds one)"
        )
    deciding = scorer or deciding_scorer(run)
    wanted = gallery.wanted_images(gallery.picks(run, deciding))
    remarks = []
    try:
        images = images_of(run, wanted, root)
    except OpensetError as error:
        images = {part: kept_images(run, part) for part in wanted}
        remarks.append(f"Images are missing in the galleries: {error}.")
    return View(run=run, scorer=deciding, map=map_of(run), images=images, remarks=tuple(remarks))


def _write_figures(view: View) -> tuple[Path, ...]:
    from openset_core.report.style import paper_style, save_figure

    written: list[Path] = []
    for topic in TOPICS:
        with paper_style():
            for name, figure in topic.figures(view):
                written += save_figure(figure, view.run.folder.figures / name)
    return tuple(sorted(written))


def inputs_of(path: Path, scorer: str = "") -> str:
    """What a page is made from, as one word; a page that carries another one is out of date.

    Args:
        path: the run folder.
        scorer: the scorer that was asked for; empty for the model's own.
    """
    folder = RunFolder(path)
    files = (folder.experiment, folder.results, folder.metrics, folder.sample_history)
    facts = [FORMAT, [sha256(file) if file.exists() else "" for file in files]]
    return f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}/{quote(scorer)}"


def is_current(path: Path) -> bool:
    """Whether a run has a page, of whichever scorer, made from what the run folder holds now."""
    made_from = inputs_in(RunFolder(path).report)
    _hash, slash, scorer = made_from.partition("/")
    return bool(slash) and made_from == inputs_of(path, unquote(scorer))
