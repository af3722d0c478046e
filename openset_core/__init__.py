"""openset: a plugin framework for open-set recognition.

    import openset_core as openset
    run = openset.run(plugins=["m2iosr", "vgg13"], protocol="digits")
    print(run.results.table())

Names are imported when they are first used, so that `import openset_core` loads neither
numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openset_core.errors import OpensetError
from openset_core.hookspecs import hookimpl
from openset_core.specs import (
    HOOK_API,
    BackboneSpec,
    DatasetSpec,
    FamilySpec,
    FigureConfig,
    FigureSpec,
    NoOptions,
    ObserverSpec,
    ProtocolSpec,
    RecipeSpec,
    RepresentationLossSpec,
    RequiredRun,
    SampleGeneratorSpec,
    UnknownScorerSpec,
    option,
)

if TYPE_CHECKING:
    from openset_core.api import bench, figure, load_run, run, run_trials
    from openset_core.components import (
        Backbone,
        BackboneContext,
        Batch,
        FeatureMap,
        Features,
        GeneratorContext,
        Landmarks,
        LossContext,
        OptimizerRecipe,
        Phase,
        RepresentationLoss,
        SampleGenerator,
    )
    from openset_core.data.images import DataRequest, ImageSet
    from openset_core.estimator import OpenSetClassifier
    from openset_core.inference.trained_model import load
    from openset_core.observers import Observer, RunEvent
    from openset_core.report.comparison_page import (
        write_comparison_figures,
        write_comparison_page,
    )
    from openset_core.results.comparison import compare
    from openset_core.scorer import FeatureSource, FeatureTable, FormulaScorer, UnknownScorer

__version__ = "0.1.0"

_LAZY = {
    "Backbone": "components",
    "BackboneContext": "components",
    "Batch": "components",
    "DataRequest": "data.images",
    "FeatureMap": "components",
    "FeatureSource": "scorer",
    "FeatureTable": "scorer",
    "Features": "components",
    "FormulaScorer": "scorer",
    "GeneratorContext": "components",
    "ImageSet": "data.images",
    "Landmarks": "components",
    "LossContext": "components",
    "Observer": "observers",
    "OpenSetClassifier": "estimator",
    "OptimizerRecipe": "components",
    "Phase": "components",
    "RepresentationLoss": "components",
    "RunEvent": "observers",
    "SampleGenerator": "components",
    "UnknownScorer": "scorer",
    "bench": "api",
    "compare": "results.comparison",
    "load": "inference.trained_model",
    "figure": "api",
    "load_run": "api",
    "run": "api",
    "run_trials": "api",
    "write_comparison_figures": "report.comparison_page",
    "write_comparison_page": "report.comparison_page",
}

__all__ = [
    "HOOK_API",
    "Backbone",
    "BackboneContext",
    "BackboneSpec",
    "Batch",
    "DataRequest",
    "DatasetSpec",
    "FamilySpec",
    "FeatureMap",
    "FeatureSource",
    "FeatureTable",
    "Features",
    "FigureConfig",
    "FigureSpec",
    "FormulaScorer",
    "GeneratorContext",
    "ImageSet",
    "Landmarks",
    "LossContext",
    "NoOptions",
    "Observer",
    "ObserverSpec",
    "OpenSetClassifier",
    "OpensetError",
    "OptimizerRecipe",
    "Phase",
    "ProtocolSpec",
    "RecipeSpec",
    "RepresentationLoss",
    "RepresentationLossSpec",
    "RequiredRun",
    "RunEvent",
    "SampleGenerator",
    "SampleGeneratorSpec",
    "UnknownScorer",
    "UnknownScorerSpec",
    "__version__",
    "bench",
    "compare",
    "figure",
    "hookimpl",
    "load",
    "load_run",
    "option",
    "run",
    "run_trials",
    "write_comparison_figures",
    "write_comparison_page",
]


_RENAMED = {"FigureShape": "FigureConfig", "RunNeed": "RequiredRun"}
"""Old names that plugins may still import."""


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        import warnings

        warnings.warn(
            f"openset_core.{name} is now openset_core.{_RENAMED[name]}",
            DeprecationWarning,
            stacklevel=2,
        )
        return globals()[_RENAMED[name]]
    if name in _LAZY:
        module = importlib.import_module(f"openset_core.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
