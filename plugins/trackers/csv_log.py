"""A row an epoch, for spreadsheets and plotting scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openset_core import NoOptions, Observer, RunEvent
from openset_core.files import write_text
from openset_core.observers import EpochDone, StageDone

FILE_NAME = "log.csv"


class CsvLog(Observer):
    """Writes log.csv: epoch, each loss term as `phase/term`, rate, validation accuracy, times.

    The file is the table of the run's metrics.jsonl and is replaced whole after each epoch, so
    that an interrupted run that goes on has every epoch once, those before this observer was
    named too. A term that an epoch does not have is an empty field.

    """

    def __init__(self, _config: NoOptions, folder: Path) -> None:
        self.folder = folder

    def receive(self, event: RunEvent) -> None:
        """Write the file anew after an epoch, and once for a run that was trained before."""
        if isinstance(event, EpochDone):
            earlier = [row for row in self._recorded() if row["epoch"] < event.record["epoch"]]
            self._write([*earlier, event.record])
        elif isinstance(event, StageDone) and event.stage == "train" and event.skipped:
            recorded = self._recorded()
            if recorded:
                self._write(recorded)

    def _recorded(self) -> list[Mapping[str, Any]]:
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        rows = [flat(record) for record in records]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        # Terms of phases that begin later join the other terms, in front of the rest.
        columns.sort(key=lambda name: (name != "epoch", "/" not in name))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / FILE_NAME, text.getvalue())


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's record as one row; loss terms by `phase/term`, nested values left out.

    >>> flat({"epoch": 1, "terms": {"fit/loss": 0.5}, "rate": 0.1})
    {'epoch': 1, 'fit/loss': 0.5, 'rate': 0.1}
    """
    row: dict[str, Any] = {}
    for name, value in record.items():
        if name == "terms":
            row.update(value)
        elif isinstance(value, bool | int | float | str):
            row[name] = value
    return row
