"""`openset export RUN --to onnx`: a finished run as one file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from openset_core.cli.common import PATH

ENDINGS = {"onnx": ".onnx", "torchexport": ".pt2"}


@click.command()
@click.argument("run", type=PATH)
@click.option("--to", "form", type=click.Choice(list(ENDINGS)), required=True)
@click.option("--scorer", help="Score by another scorer of the run [default: the method's own].")
@click.option(
    "--output",
    "-o",
    type=PATH,
    help="File to write [default: model.onnx or model.pt2 in the run folder].",
)
def export(run: Path, form: str, scorer: str | None, output: Path | None) -> None:
    """Write one file that computes probabilities, score and decision from pixels.

    RUN is a run folder or its model/ folder; nothing is trained. The file is compared with the
    model before it is kept.
    """
    from openset_core.inference import trained_model as inference
    from openset_core.inference.export import onnx_file, torch_file
    from openset_core.inference.export.export_module import prepare_export

    write = onnx_file.write if form == "onnx" else torch_file.write
    model = inference.load(run, device="cpu", scorer=scorer)
    path = output or model.folder.parent / f"model{ENDINGS[form]}"
    exported = prepare_export(model)
    difference = write(exported, path)
    image = model.description.image
    click.echo(f"written {path}, {path.stat().st_size / 2**20:.1f} MB")
    colours = "RGB" if image.channels == 3 else "grey"
    click.echo(f"  images         uint8 [N, {image.channels}, H, W], {colours}, of any size")
    optional = ", optional" if form == "onnx" else ""
    click.echo(f"  threshold      float64{optional}, stored {exported.threshold:.6g}")
    click.echo(f"  probabilities  float32 [N, {len(model.classes)}]")
    click.echo(f"  score          float64 [N], by {model.scorer}")
    click.echo("  unknown        bool [N]")
    click.echo("  label          int64 [N], -1 for unknown")
    click.echo(f"scores differ from the model's by {difference:.1g} at most")
