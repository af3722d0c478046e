"""Samples that the decision got most wrong: known ones rejected, unknown ones accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from markupsafe import Markup

from openset_core.report.axes import number
from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.report.images import Pixels, data_uri, thumbnail
from openset_core.report.markup import Content, element, note
from openset_core.report.page import Section
from openset_core.report.run_page.view import Figures, View

MOST_SAMPLES = 24

CELL = 1.28
"""Height of an image and its two lines of text in a figure, where its width is 1."""


@frozen(kw_only=True, eq=False)
class Pick:
    """Some samples of one kind, the worst first.

    Attributes:
        title: what they have in common.
        kind: short name, for files.
        samples: part and row of each.
        of: how many such samples there are.
        among: how many there could be.
    """

    title: str
    kind: str
    samples: Sequence[tuple[TestSplit, int]]
    of: int
    among: int


def picks(run: RunData, scorer: str) -> tuple[Pick, ...]:
    """Known samples rejected with the highest scores, unknown ones accepted with the lowest."""
    if run.known is None or scorer not in run.scored:
        return ()
    threshold = run.scorers[scorer].threshold
    known = run.known.scores[scorer]
    rejected = np.flatnonzero(known > threshold)
    worst = rejected[np.argsort(-known[rejected], kind="stable")]
    found = [
        Pick(
            title="Known, but rejected",
            kind="known-rejected",
            samples=[(run.known, int(row)) for row in worst[:MOST_SAMPLES]],
            of=len(rejected),
            among=len(known),
        )
    ]
    if run.unknown:
        pooled = run.pooled(scorer)
        accepted = np.flatnonzero(pooled <= threshold)
        best = accepted[np.argsort(pooled[accepted], kind="stable")][:MOST_SAMPLES]
        ends = np.cumsum([len(part) for part in run.unknown])
        where = np.searchsorted(ends, best, side="right")
        starts = ends - [len(part) for part in run.unknown]
        found.append(
            Pick(
                title="Unknown, but accepted with the highest confidence",
                kind="unknown-accepted",
                samples=[
                    (run.unknown[part], int(row - starts[part]))
                    for part, row in zip(where.tolist(), best.tolist(), strict=True)
                ],
                of=len(accepted),
                among=len(pooled),
            )
        )
    return tuple(found)


def wanted_images(found: Sequence[Pick]) -> dict[str, Integers]:
    """Numbers of the samples that the galleries show, by part of the feature store."""
    rows: dict[str, list[int]] = {}
    for pick in found:
        for part, row in pick.samples:
            rows.setdefault(part.part, []).append(row)
    return {part: np.array(numbers, dtype=np.int64) for part, numbers in rows.items()}


def section(view: View) -> Section | None:
    """Both galleries, with scores, true and predicted classes."""
    found = picks(view.run, view.scorer)
    if not found:
        return None
    body = Markup("").join(_gallery(view, pick) for pick in found)
    return Section(
        "galleries",
        "Samples it got wrong",
        body,
        f"The rejection threshold of {view.scorer} is {number(view.threshold)}; a higher score "
        "means unknown. The worst mistakes come first.",
        short="Mistakes",
    )


def _gallery(view: View, pick: Pick) -> Markup:
    heading = element("h3", pick.title)
    share = f"{pick.of:,} of {pick.among:,}"
    if not pick.samples:
        return heading + element("p", "None of ", f"{pick.among:,} samples.")
    if len(pick.samples) < pick.of:
        said = f"{share} samples; the first {len(pick.samples)} are shown."
    else:
        said = f"{share} samples."
    pictures = any(_pixels(view, part, row) is not None for part, row in pick.samples)
    items = [_item(view, part, row, pictures) for part, row in pick.samples]
    return heading + note(said) + element("ul", items, class_="gallery")


def _item(view: View, part: TestSplit, row: int, pictures: bool) -> Markup:
    true, predicted = names(view, part, row)
    score = number(float(view.scores(part)[row]))
    pixels = _pixels(view, part, row)
    picture: Content = None
    if pixels is None and pictures:
        picture = element("span", "no image", class_="no-image")
    elif pixels is not None:
        described = f"Sample of {true}, taken for {predicted}"
        picture = element("img", src=data_uri(thumbnail(pixels)), alt=described)
    what = element("p", element("b", true), " → ", predicted)
    return element("li", picture, what, element("p", f"score {score}", class_="score"))


def names(view: View, part: TestSplit, row: int) -> tuple[str, str]:
    """True class, with its set where there are several, and the class it would be given."""
    true = part.class_name(part.label[row])
    if part.name != "known" and len(view.run.unknown) > 1:
        true = f"{part.name}: {true}"
    return true, view.run.class_names[part.predicted[row]]


def figures(view: View) -> Figures:
    """A figure of each gallery for which there are images."""
    from openset_core.report.style import DOUBLE_COLUMN, new_figure

    for pick in picks(view.run, view.scorer):
        shown = [
            (part, row, image)
            for part, row in pick.samples
            if (image := _pixels(view, part, row)) is not None
        ]
        if not shown:
            continue
        columns = 8
        rows = -(-len(shown) // columns)
        figure = new_figure(DOUBLE_COLUMN, rows * DOUBLE_COLUMN / columns * CELL)
        axes = figure.subplots()
        axes.set(xlim=(0, columns), ylim=(rows * CELL, 0), aspect="equal")
        axes.set_axis_off()
        for position, (part, row, image) in enumerate(shown):
            left, top = position % columns, position // columns * CELL
            true, predicted = names(view, part, row)
            score = number(float(view.scores(part)[row]))
            grey = image.shape[2] == 1
            axes.imshow(
                image[:, :, 0] if grey else image,
                cmap="gray" if grey else None,
                vmin=0,
                vmax=255,
                extent=(left + 0.04, left + 0.96, top + CELL - 0.04, top + CELL - 0.96),
            )
            said = f"{_cut(true)} → {_cut(predicted)}\n{score}"
            axes.text(left + 0.5, top + CELL - 0.99, said, ha="center", va="bottom", fontsize=6)
        axes.set(xlim=(0, columns), ylim=(rows * CELL, 0))
        yield pick.kind, figure


def _pixels(view: View, part: TestSplit, row: int) -> Pixels | None:
    return view.images.get(part.part, {}).get(row)


def _cut(name: str, most: int = 9) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
