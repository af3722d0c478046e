"""What several tests share: a small third-party plugin, and runs made with it.

The plugin lies in `tests/tiny_plugin` as an installer would have left it (a package and its
dist-info folder), so that this process and every process it starts finds it on the path.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores; before torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY_PLUGIN = Path(__file__).parent / "tiny_plugin"


@contextlib.contextmanager
def tiny_plugin_installed() -> Iterator[None]:
    """Let importlib.metadata find the plugin, here and in child processes.

    One thread a process: networks this small gain nothing from a second one, and two that
    wait for each other are slow on a busy machine.
    """
    import torch

    from openset_core.registry import registry

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY_PLUGIN)
        patch.setenv("PYTHONPATH", str(TINY_PLUGIN), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        registry.cache_clear()
        try:
            yield
        finally:
            registry.cache_clear()
            torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> Iterator[None]:
    """Backbone `tiny`, loss `turns`, observer `event-log` and protocol `tiny-digits`."""
    with tiny_plugin_installed():
        yield


@pytest.fixture(scope="session")
def with_tiny() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The tests' plugin for the length of a `with` block, for runs that several tests share."""
    return tiny_plugin_installed


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test may change: softmax on tiny, two epochs, scorer msp."""
    from openset_core import api

    folder = tmp_path_factory.mktemp("finished") / "run"
    with tiny_plugin_installed():
        api.run("softmax,tiny", "tiny-digits", out=folder, device="cpu")
    return folder


@pytest.fixture
def finished(tiny: None, finished_once: Path, tmp_path: Path) -> Path:
    """A test's own copy of a finished run: softmax on tiny, two epochs, scorer msp."""
    return Path(shutil.copytree(finished_once, tmp_path / "finished"))


def _module(name: str) -> Any:
    """A module beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def html_page() -> Callable[[Path | str], Any]:
    """`html_page(path or text)` reads a page and checks its form; see `html_page.py`."""
    page: Callable[[Path | str], Any] = _module("html_page").Page
    return page


@pytest.fixture(scope="session")
def chart_rows() -> Callable[..., list[dict[str, Any]]]:
    """`chart_rows(specification, number)`: rows of a chart's data; see `html_page.py`."""
    function: Callable[..., list[dict[str, Any]]] = _module("html_page").chart_rows
    return function


@pytest.fixture(scope="session")
def charts() -> Any:
    """What an Altair chart shows; see `charts.py`."""
    return _module("charts")


@pytest.fixture(scope="session")
def made_up_run() -> Callable[..., Path]:
    """Writes a finished run of any shape without training; see `made_up.py`."""
    function: Callable[..., Path] = _module("made_up").made_up_run
    return function


@pytest.fixture
def made_up_results(tmp_path: Path) -> Callable[..., Path]:
    """Writes what a comparison reads of a run, below `runs`; see `made_up.py`."""
    function = _module("made_up").made_up_results
    return lambda *arguments, top=tmp_path / "runs", **more: function(top, *arguments, **more)


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def openset(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`openset ARGUMENTS` in this process."""
    from openset_core.cli import main

    def call(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`openset ARGUMENTS` in a process of its own, ended with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "openset_core.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
