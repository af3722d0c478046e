"""From a run folder to report.html and figures/."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from attrs import frozen

from openset_core import __version__
from openset_core.errors import ConfigError, OpensetError, did_you_mean
from openset_core.files import sha256, write_text
from openset_core.report.charts.confusion import confusion_chart
from openset_core.report.charts.histograms import histogram_chart
from openset_core.report.charts.output import save_chart
from openset_core.report.data import RunData, open_run
from openset_core.report.embedding import map_of
from openset_core.report.figure_cache import images_of, kept_images
from openset_core.report.render import inputs_in, render
from openset_core.report.run_page import charts, galleries, provenance, results
from openset_core.report.run_page.view import View, shown_scorer
from openset_core.run_folder import RunFolder

if TYPE_CHECKING:
    from openset_core.data.preparation import ExperimentData

FORMAT = 2
"""Raised when pages made before should be made again."""


@frozen(kw_only=True)
class Report:
    """What was made of a run."""

    page: Path
    figures: tuple[Path, ...]
    remarks: tuple[str, ...]


def make_report(
    path: Path,
    *,
    scorer: str | None = None,
    figures: bool = True,
    data_root: Path | None = None,
    data: ExperimentData | None = None,
) -> Report:
    """Make the page of a finished run, and its figures.

    Recorded data is all that is needed; images of the galleries come from the data sets the first
    time, and are kept in the run folder.
    """
    with open_run(path) as run:
        view = _view(run, scorer, data_root, data)
        confusion = charts.confusion_of(view)
        text = render(
            "run.html",
            kind="Run",
            title=run.title,
            subtitle=results.subtitle(view),
            footer=f"Made from what {path.resolve().name} recorded, by openset {__version__}.",
            inputs=inputs_of(path, scorer or ""),
            view=view,
            summary=results.summary(view),
            tiles=results.tiles(view),
            warnings=[*provenance.warnings(run), *run.gaps, *view.remarks],
            results=results.tables(view),
            facts=provenance.provenance(run),
            curves=charts.curves(view),
            histograms=[(each, histogram_chart(each)) for each in charts.histograms(view)],
            confusion=confusion,
            confusion_chart=confusion and confusion_chart(confusion),
            embedding=charts.embedding(view),
            galleries=galleries.galleries(view),
            training=charts.training(view),
            generated=galleries.generated(view),
        )
        written: list[Path] = []
        for name, chart in charts.figures(view).items() if figures else ():
            written += save_chart(chart, run.folder.figures / name, ("png", "svg"))
    write_text(run.folder.report, text)
    return Report(page=run.folder.report, figures=tuple(sorted(written)), remarks=view.remarks)


def _view(run: RunData, scorer: str | None, root: Path | None, data: ExperimentData | None) -> View:
    if scorer is not None and scorer not in run.scorers:
        raise ConfigError(
            f"{run.folder.path} has no scorer {scorer!r}"
            f"{did_you_mean(scorer, run.scorers) or '; it has ' + ', '.join(run.scorers)}"
            " (`openset score RUN --plugins NAME` adds one)"
        )
    deciding = scorer or shown_scorer(run)
    needed = galleries.images_for(galleries.mistakes(run, deciding))
    remarks = []
    try:
        images = images_of(run, needed, root, data)
    except OpensetError as error:
        images = {split: kept_images(run, split) for split in needed}
        remarks.append(f"Images are missing in the galleries: {error}.")
    return View(run=run, scorer=deciding, map=map_of(run), images=images, remarks=tuple(remarks))


def inputs_of(path: Path, scorer: str = "") -> str:
    """What a page is made from, as one word; a page that carries another one is out of date."""
    folder = RunFolder(path)
    files = (folder.experiment, folder.results, folder.metrics, folder.sample_history)
    facts = [FORMAT, [sha256(file) if file.exists() else "" for file in files]]
    return f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}/{quote(scorer)}"


def is_current(path: Path) -> bool:
    """Whether a run has a page, of whichever scorer, made from what the run folder holds now."""
    made_from = inputs_in(RunFolder(path).report)
    _hash, slash, scorer = made_from.partition("/")
    return bool(slash) and made_from == inputs_of(path, unquote(scorer))
