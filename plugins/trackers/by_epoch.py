"""How the test metrics go with the epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from openset_core import NoOptions, Observer, RunEvent
from openset_core.files import write_text
from openset_core.observers import EpochTested, RunStarted

FILE_NAME = "test-by-epoch.json"
NOTE = "measured on test data after each epoch; nothing is chosen by it"


class ByEpoch(Observer):
    """Writes test-by-epoch.json: each scorer's metrics against all unknown sets and each alone.

    After every epoch the whole test passes the network once, and the training split too where a
    scorer learns from it. The file is replaced whole; a run that goes on keeps its epochs.

    """

    wants = (EpochTested,)

    def __init__(self, _config: NoOptions, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.epochs: list[dict[str, Any]] = []

    def receive(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted) and self.path.exists():
            self.epochs = json.loads(self.path.read_text("utf-8"))["epochs"]
        elif isinstance(event, EpochTested):
            number = event.epoch + 1
            scorers = {name: attrs.asdict(result) for name, result in event.scorers.items()}
            # An epoch that was interrupted after its test is done again.
            self.epochs = [line for line in self.epochs if line["epoch"] < number]
            self.epochs.append({"epoch": number, "scorers": scorers})
            content = {"note": NOTE, "epochs": self.epochs}
            write_text(self.path, json.dumps(content, indent=1) + "\n")
