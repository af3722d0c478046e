"""The benchmarks run: they use parts of the loop that no user calls."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "benchmarks"


def benchmark(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BATCH", 2)
    return module


def test_the_step_against_its_ceiling(monkeypatch):
    module = benchmark("bench_step", monkeypatch)
    loop, bare, ratio = module.compare("classifier32", torch.device("cpu"), batches=1, rounds=1)
    assert min(loop, bare, ratio) > 0
