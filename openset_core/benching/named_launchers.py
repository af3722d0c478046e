"""The launchers by name."""

from __future__ import annotations

from collections.abc import Callable

from openset_core.benching.job import Settings
from openset_core.benching.launchers import Launcher, Resources


def _inline(
    settings: Settings, resources: Resources, runs: int, check: Callable[[], None]
) -> Launcher:
    from openset_core.benching.inline import InlineLauncher

    return InlineLauncher(settings, check)


def _processes(
    settings: Settings, resources: Resources, runs: int, check: Callable[[], None]
) -> Launcher:
    from openset_core.benching.processes import ProcessLauncher

    return ProcessLauncher(settings, resources, runs)


def _ray(
    settings: Settings, resources: Resources, runs: int, check: Callable[[], None]
) -> Launcher:
    from openset_core.benching.ray_launcher import RayLauncher

    return RayLauncher(settings, resources, runs)


LAUNCHERS: dict[str, Callable[[Settings, Resources, int, Callable[[], None]], Launcher]] = {
    "inline": _inline,
    "processes": _processes,
    "ray": _ray,
}
"""How to make each launcher, from where and how to run, what may be used, the number of runs, and
what is asked between steps."""
