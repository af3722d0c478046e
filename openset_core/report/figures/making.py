"""A figure from its name to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from openset_core.data.images import data_root as data_folder
from openset_core.report.figures.files import USUAL_FORMATS, save
from openset_core.report.figures.picture import Picture, draw, shape_with
from openset_core.report.figures.runs import DEFAULT_RUNS, Wanted, collected
from openset_core.specs import FigureSpec


@frozen(kw_only=True, eq=False)
class MadeFigure:
    """A figure that was made.

    Attributes:
        picture: what was drawn, with its numbers.
        files: what was written.
        missing: the runs that it would show, too, had they been there.
        left_out: how many runs of a folder of runs it did not ask for.
        unfinished: runs of a folder of runs that are not finished.
    """

    picture: Picture
    files: tuple[Path, ...] = ()
    missing: tuple[Wanted, ...] = ()
    left_out: int = 0
    unfinished: tuple[Path, ...] = ()

    def _repr_html_(self) -> str:
        """The picture, in a notebook."""
        from openset_core.report.figures.page import svg_of

        return str(svg_of(self.picture))


def make_figure(
    spec: FigureSpec,
    runs: Sequence[Path] = (),
    *,
    options: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    settings: Sequence[str] = (),
    stem: Path | None = None,
    formats: Sequence[str] = USUAL_FORMATS,
    root: Path = DEFAULT_RUNS,
    data_root: Path | None = None,
) -> MadeFigure:
    """Find a figure's runs, draw it and write it.

    Args:
        spec: the figure.
        runs: run folders, or folders that hold some; those that its commands make without any.
        options: options of the figure that are set anew.
        protocol: taken instead of the figure's own.
        settings: further assignments of the commands that make the runs.
        stem: path of the files without suffix; nothing is written without.
        formats: kinds of file.
        root: the folder of runs, where none are named.
        data_root: the folder of data sets; $OPENSET_DATA or `./data` by default.

    Raises:
        OpensetError: too few runs, or runs that do not hold what the figure shows.
    """
    shape = shape_with(spec, options or {})
    with collected(
        spec,
        runs,
        protocol=protocol,
        settings=settings,
        root=root,
        data_root=data_folder(data_root),
    ) as found:
        picture = draw(spec, shape, found)
        files = save(picture, spec, found, stem, formats) if stem else []
    return MadeFigure(
        picture=picture,
        files=tuple(files),
        missing=found.missing,
        left_out=found.left_out,
        unfinished=found.unfinished,
    )
