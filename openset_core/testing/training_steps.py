"""What the training loop does with phases, in small, and how tensors are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from openset_core.components import Batch, OpenSetModel, Phase, Terms
from openset_core.experiment.training_options import TrainingOptions
from openset_core.testing.report import fail, not_applicable
from openset_core.training.optimisation import PhaseOptimizer, build_optimizers

TENSORS = dict[str, Tensor]


# --- phases -------------------------------------------------------------------------------


def optimizers_of(phases: Sequence[Phase], lr: float = 0.01) -> list[PhaseOptimizer]:
    """The optimisers of phases, as in training; SGD where a phase leaves it open."""
    return build_optimizers(phases, TrainingOptions(lr=lr, momentum=0.9))


@contextmanager
def only(model: nn.Module, item: PhaseOptimizer) -> Iterator[None]:
    """Freeze all that a phase does not update, as the training loop does."""
    kept = [p for module in item.phase.keeps_graph for p in module.parameters()]
    live = {id(parameter) for parameter in (*item.parameters, *kept)}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in live]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def terms_of(item: PhaseOptimizer, batch: Batch, precision: str = "fp32") -> Terms:
    """A phase's terms, checked for their form."""
    if precision == "bf16":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = item.phase.loss(batch)
    else:
        terms = item.phase.loss(batch)
    if not isinstance(terms, Mapping) or not terms:
        fail(f"phase {item.phase.name} returned {type(terms).__name__} {_short(terms)}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.shape != () or not term.is_floating_point():
            fail(f"term {name!r} of phase {item.phase.name} is {tensor_text(term)}")
        if not torch.isfinite(term):
            fail(f"term {name} of phase {item.phase.name} is {term.item()}")
    return dict(terms)


def step(
    model: OpenSetModel,
    items: Sequence[PhaseOptimizer],
    batch: Batch,
    *,
    precision: str = "fp32",
    after: Callable[[PhaseOptimizer, Terms], None] | None = None,
    update: bool = True,
) -> list[Terms]:
    """One training step: every phase that is active, in order.

    Args:
        model: all that is trained.
        items: the phases with their optimisers.
        batch: images and labels; each phase gets a batch of its own, with common notes.
        precision: `"fp32"` or `"bf16"`.
        after: called after each backward pass, while the gradients are there.
        update: whether the optimisers step.
    """
    memo: dict[str, Any] = {}
    found = []
    for item in items:
        if not item.phase.active(batch.epoch, batch.epochs):
            continue
        own = Batch(
            batch.images,
            batch.labels,
            backbone=model.backbone,
            epoch=batch.epoch,
            epochs=batch.epochs,
            memo=memo,
        )
        with only(model, item):
            terms = terms_of(item, own, precision)
            total = torch.stack([term.float() for term in terms.values()]).sum()
            if not total.requires_grad:
                fail(f"the terms of phase {item.phase.name} depend on nothing that it updates")
            total.backward()  # type: ignore[no-untyped-call]
        if after is not None:
            after(item, terms)
        if update:
            item.optimizer.step()
        for parameter in model.parameters():
            parameter.grad = None
        found.append(terms)
    return found


def active_in(items: Sequence[PhaseOptimizer], epochs: int = 4) -> list[int]:
    """Epochs after which every phase was active at least once, for schedules by epoch."""
    needed, chosen = set(range(len(items))), []
    for epoch in range(epochs):
        active = {n for n in needed if items[n].phase.active(epoch, epochs)}
        if active:
            chosen.append(epoch)
            needed -= active
    if needed:
        names = ", ".join(items[number].phase.name for number in sorted(needed))
        fail(f"phase {names} is active in none of {epochs} epochs")
    return chosen


# --- comparison ---------------------------------------------------------------------------


def tensors_of(module: nn.Module) -> TENSORS:
    """A copy of every parameter and buffer, also of those that are not saved."""
    members = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in members}


def changed(before: TENSORS, module: nn.Module) -> list[str]:
    """Names of the parameters and buffers that are not what they were."""
    after = tensors_of(module)
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or not torch.equal(before[name].nan_to_num(), after[name].nan_to_num())
    )


def batchnorm_statistics(module: nn.Module) -> set[str]:
    """Names of BatchNorm's running statistics."""
    return {
        f"{path}.{name}" if path else name
        for path, layer in module.named_modules()
        if isinstance(layer, _BatchNorm)
        for name, _ in layer.named_buffers(recurse=False)
    }


def only_batchnorm_trains(module: nn.Module) -> None:
    """Evaluation mode for everything but BatchNorm: batch statistics without random draws."""
    from openset_core.auxiliary_batchnorm import AuxiliaryBatchNorm

    module.eval()
    for layer in module.modules():
        if isinstance(layer, AuxiliaryBatchNorm | _BatchNorm):
            layer.train()


def expect_tensor(
    value: Any, what: str, shape: Sequence[int | None], dtype: torch.dtype | None = None
) -> None:
    """A float tensor of a shape, None for any length, and a dtype; finite."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        fail(f"{what} is {tensor_text(value)}")
    fits = value.dim() == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted_text = ", ".join("any" if length is None else str(length) for length in shape)
        fail(f"{what} has shape {list(value.shape)}, not [{wanted_text}]")
    if dtype is not None and value.dtype != dtype:
        fail(f"{what} is {value.dtype}, not {dtype}")
    if not torch.isfinite(value).all():
        fail(f"{what} holds NaN or infinite values")


def expect_equal(first: Tensor, second: Tensor, what: str, tolerance: float = 0.0) -> None:
    """Two tensors agree, to a share of their largest magnitude."""
    if first.shape != second.shape:
        fail(f"{what}: shape {list(first.shape)} against {list(second.shape)}")
    difference = float((first.float() - second.float()).abs().max()) if first.numel() else 0.0
    scale = float(first.abs().max()) if first.numel() else 0.0
    if not difference <= tolerance * max(scale, 1e-3):
        fail(f"{what}: they differ by {difference:.3g}, where values reach {scale:.3g}")


def tensor_text(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


# --- files and devices ----------------------------------------------------------------------


def through_safetensors(tensors: Mapping[str, Tensor]) -> TENSORS:
    """Tensors written to a safetensors file and read back."""
    from safetensors.torch import load_file, save_file

    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensors.safetensors"
        save_file(copies, path)
        loaded: TENSORS = load_file(path)
    return loaded


class _Call(nn.Module):
    """A module whose forward is a function over another module."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def on_another_device(
    module: nn.Module, function: Callable[..., Any], *arguments: Any
) -> dict[str, Tensor]:
    """Call a function over a module as if both lay on a GPU: on a real one if there is one, else
    on an imitation that computes shapes and devices only.

    Args:
        module: whose parameters and buffers are moved.
        function: called with the arguments; returns tensors by name.
        *arguments: tensors are moved, everything else is handed on.

    Returns:
        The results; without a GPU they have no contents.
    """
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensorMode,
    )

    real = torch.cuda.is_available()
    with nullcontext() if real else FakeTensorMode(allow_non_fake_inputs=True):
        try:
            torch.empty(1, device="cuda")
        except (RuntimeError, AssertionError):
            not_applicable("this build of torch cannot imitate a GPU")

        def moved(tensor: Tensor) -> Tensor:
            if real:
                copy = tensor.detach().to("cuda")
            else:
                copy = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda"
                )
            return copy.requires_grad_() if tensor.requires_grad else copy

        members = [*module.named_parameters(), *module.named_buffers()]
        tensors = {f"module.{name}": moved(tensor) for name, tensor in members}
        inputs = tuple(moved(v) if isinstance(v, Tensor) else v for v in arguments)
        try:
            result: dict[str, Tensor] = torch.func.functional_call(
                _Call(module, function), tensors, inputs
            )
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            not_applicable(f"it looks at values on the way, which needs a real GPU ({error})")
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            if "same device" in reason or "device" in type(error).__name__.lower():
                fail(f"it mixes devices: {reason}")
            if not real and "PrimaryContext" in reason:
                not_applicable("it differentiates on the way, which needs a real GPU")
            raise
    for name, value in result.items():
        if isinstance(value, Tensor) and value.device.type != "cuda":
            fail(f"{name} lies on {value.device}, not on the device of the module")
    return result
