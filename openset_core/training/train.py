"""The training stage of a run: data, model, loop, artefact."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from openset_core.components import OpenSetModel
from openset_core.data.images import data_root
from openset_core.data.loading import make_loader
from openset_core.data.preparation import ExperimentData, prepare_data
from openset_core.errors import CompositionError, DataError
from openset_core.experiment.experiment import Experiment
from openset_core.experiment.training_options import TrainingOptions
from openset_core.model.artefact import save_model
from openset_core.model.building import build_model
from openset_core.observers import EpochScores, EpochTested, Observers
from openset_core.run_folder import RunFolder, Runtime, append_metrics
from openset_core.training import checkpoint
from openset_core.training.generated_samples import COUNT as SAMPLES_KEPT
from openset_core.training.generated_samples import write_samples
from openset_core.training.loop import Trainer
from openset_core.training.samples import draw_samples

EvaluationFactory = Callable[
    [OpenSetModel, ExperimentData, Experiment, torch.device],
    Callable[[], Mapping[str, EpochScores]],
]
"""Makes what evaluates the network in training; it is called after an epoch."""


def train_here(
    folder: RunFolder,
    experiment: Experiment,
    runtime: Runtime,
    observers: Observers,
    evaluation: EvaluationFactory,
) -> ExperimentData:
    """Train in this process; under a launcher, as one of several. Returns the data."""
    # Accelerate keeps device and precision for the whole process; each run chooses its own.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=runtime.device == "cpu",
        mixed_precision=_mixed_precision(experiment.training, runtime.device),
        # Each phase uses its own share of the model, so the unused rest must be looked for.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    device = accelerator.device
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    with accelerator.main_process_first():
        data = prepare_data(
            experiment.protocol,
            experiment.trial,
            data_root(runtime.data_root),
            runtime.download,
            runtime.plugins,
        )
    image = experiment.protocol.content.image
    options = experiment.training
    _check_batches(len(data.splits["train"]), options, accelerator.num_processes)
    loader, validation = (
        make_loader(
            data.splits[name],
            image,
            device,
            options.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
        )
        for name in ("train", "validation")
    )
    checkpoint.seed_everything(experiment.seed)
    selection = experiment.selection
    generator = selection.generator
    model = build_model(
        (selection.backbone, experiment.options[selection.backbone.name]),
        (selection.loss, experiment.options[selection.loss.name]),
        len(data.class_names),
        image,
        (generator, experiment.options[generator.name]) if generator else None,
        label_smoothing=options.label_smoothing,
    ).to(device)
    if device.type == "cuda":  # on a CPU only the images gain from this layout
        model = model.to(memory_format=torch.channels_last)
    # Under data parallelism each process needs random draws of its own after a common start.
    checkpoint.seed_everything(experiment.seed + accelerator.process_index)
    listeners = observers if accelerator.is_main_process else Observers()
    evaluate = evaluation(model, data, experiment, device) if listeners.want(EpochTested) else None
    trainer = Trainer(
        model,
        loader,
        validation,
        options,
        seed=experiment.seed,
        accelerator=accelerator,
        checkpoints=folder.checkpoints,
        observers=listeners,
        should_stop=runtime.should_stop,
        evaluate=evaluate,
    )
    if accelerator.is_main_process:  # nothing was refused: the folder belongs to this experiment
        _record(folder, data, accelerator)
    trainer.fit(partial(append_metrics, folder))
    if accelerator.is_main_process:
        if model.generator is not None:
            drawn = draw_samples(model, loader.scale, accelerator.autocast(), SAMPLES_KEPT)
            write_samples(folder.samples, drawn)
        save_model(folder.model, model, experiment, data.class_names)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    accelerator.wait_for_everyone()
    return data


def _mixed_precision(options: TrainingOptions, device: str) -> str:
    if options.precision != "auto":
        return "no" if options.precision == "fp32" else options.precision
    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # Without a processor that multiplies bf16 numbers itself, bf16 is far slower.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, lambda: False)() for name in checks) else "no"


def _check_batches(samples: int, options: TrainingOptions, processes: int) -> None:
    if options.batch_size < 2 * processes:
        raise CompositionError(
            f"training.batch_size={options.batch_size} gives {processes} devices less than two "
            "images each; raise it"
        )
    if samples < 2 * processes:
        raise CompositionError(f"{samples} training images are too few for {processes} devices")


def _record(folder: RunFolder, data: ExperimentData, accelerator: Accelerator) -> None:
    """Write down data and device, or refuse data that is not what the run was begun with."""
    recorded = folder.read()
    record = recorded.setdefault("record", {})
    facts = data.record()
    if "data" in record and record["data"] != facts:
        raise DataError(
            f"the data changed since {folder.path} was begun; bring back the old data, or choose "
            "another folder with --out"
        )
    record["data"] = facts
    record["classes"] = list(data.class_names)
    record["unknown_classes"] = data.unknown_classes()
    device = accelerator.device
    record["device"] = {
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }
    folder.write(recorded)
