"""Checks of what every component announces: its spec and its options."""

from __future__ import annotations

import inspect
import math
import operator
import pickle
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from openset_core.errors import OpensetError
from openset_core.experiment import config
from openset_core.experiment.selection import FRAMEWORK_PROVIDES
from openset_core.experiment.training_options import TrainingOptions
from openset_core.registry import registry
from openset_core.specs import HOOK_API
from openset_core.testing.component_under_test import ComponentUnderTest
from openset_core.testing.report import Checks, fail, not_applicable

BUILT = ("backbone", "loss", "scorer", "generator", "observer", "dataset")
CHECKS = Checks(*BUILT, "figure")

HEAVY = ("torch", "numpy", "scipy", "sklearn", "h5py", "timm", "torchvision", "PIL")


@CHECKS
def spec_is_described(component: ComponentUnderTest) -> None:
    """The spec has a summary of one line."""
    summary = component.spec.summary
    if not summary.strip() or "\n" in summary:
        fail(f"summary is {summary!r}")


@CHECKS
def spec_names_the_hook_api(component: ComponentUnderTest) -> None:
    """The spec was written for the hook API of this openset."""
    if component.spec.api != HOOK_API:
        fail(f"api={component.spec.api}, this openset has {HOOK_API}")


@CHECKS
def factory_is_lazy(component: ComponentUnderTest) -> None:
    """The factory is named by a string, and importing the spec and its options loads no heavy
    library, so that listing plugins stays fast."""
    if ":" in component.component.name:
        not_applicable("a member of a family is resolved only when it is asked for")
    if not isinstance(component.spec.factory, str):
        fail(f"factory is {component.spec.factory!r}; write 'package.module:attribute'")
    module = component.spec.config.__module__
    if module.partition(".")[0] in ("openset_core", "__main__", "builtins"):
        return
    if not getattr(getattr(sys.modules.get(module), "__spec__", None), "origin", None):
        return  # made while running, as in a notebook or a test
    loaded = _heavy_libraries(module, tuple(sys.path))
    if loaded:
        fail(f"import {module} loads {', '.join(loaded)}")


@cache
def _heavy_libraries(module: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """Heavy libraries that a fresh interpreter has loaded after importing a module."""
    code = (
        f"import sys; sys.path[:] = {list(path)!r}\n"
        f"import {module}\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return tuple(done.stdout.split()) if done.returncode == 0 else ()


@CHECKS
def factory_loads(component: ComponentUnderTest) -> None:
    """The factory can be imported and called with the arguments of its kind."""
    factory = component.component.load()
    arguments = 1 if component.kind == "scorer" else 2
    try:
        inspect.signature(factory).bind(*range(arguments))
    except TypeError as error:
        fail(f"{component.spec.factory} cannot be called with {arguments} arguments: {error}")


@CHECKS.only(*BUILT)
def needs_can_be_met(component: ComponentUnderTest) -> None:
    """Every word in `needs` is provided by the framework or by some installed component."""
    provided = set(FRAMEWORK_PROVIDES) | {"feature vector", "feature maps", "batchnorm"}
    for installed in registry().components:
        provided.update(getattr(installed.spec, "provides", ()))
    for word in component.spec.needs:
        if word not in provided:
            fail(f"it needs {word!r}; words in use are {', '.join(sorted(provided))}")


@CHECKS.only(*BUILT)
def defaults_are_installed(component: ComponentUnderTest) -> None:
    """Default scorers, default backbone and recipe name things that exist."""
    for name in getattr(component.spec, "default_scorers", ()):
        registry().find(name, ("scorer",))
    if getattr(component.spec, "default_backbone", None):
        registry().find(component.spec.default_backbone, ("backbone",))
    recipe = getattr(component.spec, "recipe", {})
    config.structure(dict(recipe), TrainingOptions, f"recipe of {component.component.name}")


# --- options ------------------------------------------------------------------------------


@CHECKS
def options_have_defaults(component: ComponentUnderTest) -> None:
    """The config is an attrs class in which every option has a default that its own validator
    accepts."""
    cls = component.spec.config
    if not attrs.has(cls):
        fail(f"config is {cls!r}")
    required = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
    if required:
        fail(f"no default for {', '.join(required)}")
    try:
        config.structure({}, cls, component.component.name)
        config.structure(config.unstructure(cls()), cls, component.component.name)
    except (OpensetError, ValueError, TypeError) as error:
        fail(f"the defaults are refused: {error}")


@CHECKS
def options_are_frozen(component: ComponentUnderTest) -> None:
    """Options cannot be changed once made, so that what a run records is what it used."""
    names = [field.name for field in attrs.fields(component.spec.config)]
    made = component.spec.config()
    try:
        hash(made)
    except TypeError as error:
        fail(f"options cannot be hashed: {error}; use attrs.frozen and tuples")
    if names:
        try:
            setattr(made, names[0], getattr(made, names[0]))
        except attrs.exceptions.FrozenInstanceError:
            return
        fail(f"{names[0]} can be assigned to; use attrs.frozen")


@CHECKS
def options_have_help(component: ComponentUnderTest) -> None:
    """Every option says what it does, with unit or range, in `option(default, help)`."""
    silent = [info.name for info in config.describe(component.spec.config) if not info.help.strip()]
    if silent:
        fail(f"no help text for {', '.join(silent)}")


@CHECKS
def options_can_be_written(component: ComponentUnderTest) -> None:
    """Options written to TOML and read back are equal, and so are options pickled and unpickled,
    as they are for other processes."""
    for options in (component.spec.config(), component.options):
        text = tomli_w.dumps(config.unstructure(options))
        read = config.structure(tomllib.loads(text), type(options), component.component.name)
        for back in (read, pickle.loads(pickle.dumps(options))):
            if back != options:
                fail(f"{options} came back as {back}")


@CHECKS.only(*BUILT)
def options_hold_what_they_allow(component: ComponentUnderTest) -> None:
    """Every value that an option's choices and inclusive bounds allow can be built with, or is
    refused in one sentence."""
    values = list(_variations(component))
    if not values:
        not_applicable("no option has choices or inclusive bounds")
    for name, value in values:
        try:
            options = attrs.evolve(component.options, **{name: value})
        except (ValueError, TypeError):
            continue  # excluded together with another option
        try:
            _build(component, options)
        except OpensetError:
            continue
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            fail(f"{name}={value!r} is allowed, but building fails: {reason}")


def _variations(component: ComponentUnderTest) -> Iterator[tuple[str, Any]]:
    """(option, value) of every choice, truth value and inclusive numeric bound."""
    for field in attrs.fields(attrs.resolve_types(component.spec.config)):
        values: list[Any] = list(field.metadata.get("choices", ()))
        if field.type is bool:
            values += [False, True]
        if field.type in (int, float, int | None, float | None):
            number = int if field.type in (int, int | None) else float
            values += map(number, _bounds(field.validator))
        current = getattr(component.options, field.name)
        yield from ((field.name, value) for value in values if value != current)


def _bounds(validator: Any) -> Iterator[float]:
    """Inclusive bounds of an attrs validator."""
    for inner in (getattr(validator, "validator", None), *getattr(validator, "_validators", ())):
        if inner is not None:
            yield from _bounds(inner)
    bound = getattr(validator, "bound", None)
    inclusive = getattr(validator, "compare_func", None) in (operator.ge, operator.le)
    if inclusive and isinstance(bound, int | float) and math.isfinite(bound):
        yield bound


def _build(component: ComponentUnderTest, options: Any) -> None:
    """Build the component with options; no initial weights are fetched."""
    from openset_core.data.images import DataRequest
    from openset_core.testing import stubs

    factory = component.component.load()
    with tempfile.TemporaryDirectory() as folder:
        match component.kind:
            case "scorer":
                factory(options)
            case "backbone":
                factory(options, stubs.backbone_context(initial_weights=False))
            case "loss":
                backbone = stubs.StubBackbone(maps=True, batchnorm=True)
                factory(options, stubs.loss_context(backbone))
            case "generator":
                factory(options, stubs.generator_context())
            case "dataset":
                factory(options, DataRequest(part=component.spec.parts[0], root=Path(folder)))
            case _:
                factory(options, Path(folder))
