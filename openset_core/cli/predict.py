"""`openset predict RUN IMAGES...`: a label, or `unknown`, for new images."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from openset_core.cli.common import PATH

if TYPE_CHECKING:
    from openset_core.inference.predict import FilePrediction

    Write = Callable[[FilePrediction], None]


@click.command()
@click.argument("run", type=PATH)
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="csv and jsonl are for programs.",
)
@click.option("--output", "-o", type=PATH, help="Write to a file.")
@click.option(
    "--top", type=click.IntRange(0), default=3, show_default=True, help="Likeliest classes to list."
)
@click.option("--scorer", help="Decide by another scorer of the run [default: the method's own].")
@click.option(
    "--threshold",
    metavar="RULE",
    help="For this call only: acceptance=0.99, or 0.99 for short, a share of the run's validation "
    "images; or score=VALUE.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images at once."
)
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True)
def predict(
    run: Path,
    images: tuple[str, ...],
    form: str,
    output: Path | None,
    top: int,
    scorer: str | None,
    threshold: str | None,
    batch_size: int,
    device: str,
) -> int:
    """Tell each image's class, or that it is unknown.

    RUN is a run folder or its model/ folder. IMAGES are files, folders, searched with all below
    them, or - for a list of files on standard input, one a line.

    \b
    Exit code: 0; 1 if some images could not be read, which are listed in the end; 2 for a mistake.
    """
    from openset_core.errors import DataError
    from openset_core.experiment.threshold import rules_for
    from openset_core.inference import trained_model as inference
    from openset_core.inference.predict import UnreadableFile, find_files, predict_files
    from openset_core.training.progress import bar

    model = inference.load(run, device=device, scorer=scorer)
    limit = model.threshold
    if threshold is not None:
        ((_scorer, choice),) = rules_for([threshold], [model.scorer])
        limit = model.threshold_by(choice)
    model.fitted()  # a scorer that cannot be used is refused before any image is read
    files = list(find_files(_named(images)))
    if not files:
        raise DataError("no image was named on standard input")
    to_terminal = output is None and sys.stdout.isatty()  # lines there show the progress
    start = time.perf_counter()
    unreadable: list[str] = []
    good = rejected = 0
    names = [file.path if isinstance(file, UnreadableFile) else file for file in files]
    with (
        _writer(form, output, top, names, model.classes) as write,
        bar("predicting", len(files), "image", shown=not to_terminal) as advance,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # libraries warn of oddities of single files
        for item in predict_files(model, files, threshold=limit, top=top, batch_size=batch_size):
            if isinstance(item, UnreadableFile):
                unreadable.append(item.reason)
            else:
                write(item)
                good += 1
                rejected += item.unknown
            advance()
    seconds = time.perf_counter() - start
    click.echo(
        f"{good} image{'' if good == 1 else 's'} in {seconds:.1f} s, {rejected} unknown (scorer "
        f"{model.scorer}, threshold {limit:.6g})",
        err=True,
    )
    if unreadable:
        click.echo(f"{len(unreadable)} could not be read:", err=True)
        for reason in unreadable:
            click.echo(f"  {printable(reason)}", err=True)
    return 1 if unreadable else 0


def _named(images: Sequence[str]) -> Iterator[str]:
    for name in images:
        if name == "-":
            lines = (line.rstrip("\r\n") for line in _any_bytes(sys.stdin))
            yield from (line for line in lines if line.strip())
        else:
            yield name


def _any_bytes(stream: TextIO) -> TextIO:
    """Accept file names that are not valid text in the stream's encoding."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape")
    return stream


def printable(text: str) -> str:
    """A text without control characters, which a file's name may hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextlib.contextmanager
def _writer(
    form: str, output: Path | None, top: int, names: Sequence[str], classes: Sequence[str]
) -> Iterator[Write]:
    """Writes predictions to standard output, or to a file that appears whole or not at all."""
    from openset_core.files import atomic_write

    writer = {"table": _table, "csv": _csv, "jsonl": _jsonl}[form]
    if output is None:
        yield writer(_any_bytes(sys.stdout), top, names, classes)
        sys.stdout.flush()
        return
    with (
        atomic_write(output) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        yield writer(stream, top, names, classes)


def _table(stream: TextIO, top: int, names: Sequence[str], classes: Sequence[str]) -> Write:
    file_width = max(len("file"), *(len(printable(name)) for name in names))
    label_width = max(len("unknown"), *map(len, classes))

    def line(file: str, label: str, score: str, likeliest: str) -> None:
        cells = [f"{file:<{file_width}}", f"{label:<{label_width}}", f"{score:>10}"]
        print("  ".join([*cells, *[likeliest] * bool(top)]).rstrip(), file=stream)

    def write(item: FilePrediction) -> None:
        likeliest = ", ".join(f"{name} {100 * share:.1f} %" for name, share in item.top)
        line(printable(item.path), item.label, f"{item.score:.4g}", likeliest)

    line("file", "label", "score", "likeliest known classes")
    return write


def _csv(stream: TextIO, top: int, _names: Sequence[str], classes: Sequence[str]) -> Write:
    rows = csv.writer(stream, lineterminator="\n")
    ranks = range(1, min(top, len(classes)) + 1)
    columns = [name for n in ranks for name in (f"class_{n}", f"probability_{n}")]
    rows.writerow(["file", "label", "unknown", "score", *columns])

    def write(item: FilePrediction) -> None:
        cells = [cell for name, share in item.top for cell in (name, repr(share))]
        unknown = str(item.unknown).lower()
        rows.writerow([item.path, item.label, unknown, repr(item.score), *cells])

    return write


def _jsonl(stream: TextIO, _top: int, _names: Sequence[str], _classes: Sequence[str]) -> Write:
    def write(item: FilePrediction) -> None:
        values: dict[str, Any] = {
            "file": item.path,
            "label": item.label,
            "unknown": item.unknown,
            "score": item.score,
            "top": [{"class": name, "probability": share} for name, share in item.top],
        }
        print(json.dumps(values), file=stream)

    return write
