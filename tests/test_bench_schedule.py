"""How runs are given to a launcher, and what is shown meanwhile; nothing is trained here."""

from __future__ import annotations

import io
from pathlib import Path

import attrs
import pytest
from rich.console import Console

from openset_core.benching.job import Job, Outcome
from openset_core.benching.launchers import Resources, default_workers
from openset_core.benching.plan import BenchFile, BenchMethod, make_plan
from openset_core.benching.schedule import carry_out_all
from openset_core.benching.status import Board
from openset_core.cli.bench_display import Lines, LiveTable, display
from openset_core.cli.common import duration
from openset_core.errors import ConfigError, Interrupted
from openset_core.observers import EpochDone, StageDone, StepsDone, TrainingStarted

DONE = Outcome(state="done")
DIED = Outcome(state="died", reason="its process was ended by signal 9")
FAILED = Outcome(state="failed", reason="no data")
STOPPED = Outcome(state="stopped", reason="interrupted")
STARTED = TrainingStarted(
    first_epoch=0, epochs=4, steps_per_epoch=5, parameters=1, training_parameters=1,
    device="cpu", precision="fp32",
)  # fmt: skip


class FakeLauncher:
    """Ends each run as told, the one that began first before the others."""

    def __init__(self, outcomes, slots=2):
        self.outcomes, self.slots = {k: list(v) for k, v in outcomes.items()}, slots
        self.under_way, self.started, self.most = [], [], 0
        self.stopped = self.closed = False

    def start(self, job):
        self.under_way.append(job)
        self.started.append(job.number)
        self.most = max(self.most, len(self.under_way))

    def wait(self, tell, seconds):
        job = self.under_way.pop(0)
        tell(job, STARTED)
        if self.stopped:
            return [(job, STOPPED)]
        outcomes = self.outcomes.get(job.number, [DONE])
        return [(job, outcomes.pop(0) if len(outcomes) > 1 else outcomes[0])]

    def stop(self):
        self.stopped = True

    def close(self):
        self.closed = True


@pytest.fixture
def board(tiny):
    """Four runs: two methods, two trials."""
    methods = (BenchMethod(plugins="softmax,tiny"), BenchMethod(plugins="turns,tiny"))
    return Board(make_plan(BenchFile(methods=methods, protocols=("tiny-digits",))).runs)


def carry_out(board, launcher, retries=2, should_stop=lambda: None, show=lambda: None):
    jobs = [
        Job(number=number, folder=Path("f"), log=Path("l")) for number in range(len(board.entries))
    ]
    carry_out_all(jobs, launcher, board, show, retries=retries, should_stop=should_stop)
    assert launcher.closed


def states(board):
    return [entry.state for entry in board.entries]


def test_all_runs_are_done_with_as_many_at_once_as_there_are_slots(board):
    launcher = FakeLauncher({}, slots=3)
    carry_out(board, launcher)
    assert states(board) == ["done"] * 4
    assert (launcher.started, launcher.most) == ([0, 1, 2, 3], 3)


def test_a_failed_run_is_not_repeated_and_stops_nobody(board):
    launcher = FakeLauncher({1: [FAILED]})
    carry_out(board, launcher)
    assert states(board) == ["done", "failed", "done", "done"]
    assert launcher.started == [0, 1, 2, 3]
    assert board.entries[1].reason == "no data"


def test_a_run_that_died_is_started_again(board):
    launcher = FakeLauncher({0: [DIED, DIED, DONE]})
    carry_out(board, launcher)
    assert states(board) == ["done"] * 4
    assert launcher.started.count(0) == board.entries[0].tries == 3


def test_but_not_for_ever(board):
    launcher = FakeLauncher({0: [DIED]})
    carry_out(board, launcher, retries=1)
    assert states(board) == ["failed", "done", "done", "done"]
    assert launcher.started.count(0) == 2
    assert board.entries[0].reason == "its process was ended by signal 9 (2 times)"


def test_no_retries(board):
    carry_out(board, FakeLauncher({0: [DIED]}), retries=0)
    assert board.entries[0].reason == "its process was ended by signal 9"


def test_a_run_that_somebody_else_stopped_has_failed(board):
    carry_out(board, FakeLauncher({2: [STOPPED]}))
    assert board.entries[2].reason == "it was stopped from outside"


def test_when_asked_to_stop_runs_under_way_end_and_no_other_begins(board):
    launcher = FakeLauncher({})
    asked = []

    def should_stop():
        asked.append(1)
        if len(asked) > 1:
            raise Interrupted("interrupted; go on")

    with pytest.raises(Interrupted, match="go on"):
        carry_out(board, launcher, should_stop=should_stop)
    assert (launcher.started, launcher.under_way) == ([0, 1], [])
    assert states(board) == ["done", "waiting", "waiting", "waiting"]
    assert launcher.stopped
    assert launcher.closed


def test_the_launcher_is_closed_when_something_breaks(board):
    launcher = FakeLauncher({})
    launcher.wait = lambda tell, seconds: 1 / 0
    with pytest.raises(ZeroDivisionError):
        carry_out(board, launcher)
    assert launcher.closed


# --- what a board knows ---------------------------------------------------------------------------


@pytest.fixture
def timed(board):
    """The board with a clock that the test turns."""
    now = [100.0]
    board.clock = lambda: now[0]
    return board, now


def test_a_run_counts_as_running_once_it_says_something(timed):
    board, now = timed
    board.started(0)
    assert states(board)[0] == "waiting"
    board.on_event(0, STARTED)
    entry = board.entries[0]
    assert (entry.state, entry.epoch, entry.epochs) == ("running", 0, 4)
    board.on_event(0, StepsDone(epoch=1, step=2, terms={}, rate=0.1, seconds_left=30.0))
    assert (entry.epoch, entry.seconds_left) == (1, 30.0)
    board.on_event(0, EpochDone(epoch=1, record={"seconds": 3.0}))
    assert (entry.epoch, entry.seconds_left) == (2, 6.0)
    board.on_event(0, StageDone(stage="train", seconds=1.0, detail=""))
    assert (entry.stage, entry.seconds_left) == ("extract", None)
    now[0] += 12
    board.ended(0, DONE)
    assert (entry.state, entry.seconds) == ("done", 12)


def test_time_left_follows_each_methods_own_runs(timed):
    board, now = timed
    assert board.seconds_left(1) is None
    for number, seconds in ((0, 10.0), (1, 40.0)):
        board.started(number)
        board.on_event(number, STARTED)
        now[0] += seconds
        board.ended(number, DONE)
    assert board.seconds_left(1) == 50.0
    assert board.seconds_left(2) == 25.0
    board.started(2)
    board.on_event(2, STARTED)
    now[0] += 4
    assert board.seconds_left(1) == 46.0


# --- what is shown --------------------------------------------------------------------------------


def test_lines(timed):
    board, now = timed
    stream = io.StringIO()
    show = display(board, 1, quiet=False, stream=stream)
    assert isinstance(show, Lines)
    outcomes = {1: [FAILED], 2: [DIED, DONE]}

    def tick():
        now[0] += 1
        show()

    carry_out(board, FakeLauncher(outcomes, slots=1), show=tick)
    lines = stream.getvalue().splitlines()
    assert [line.partition("; about")[0] for line in lines] == [
        "begins: softmax,tiny on tiny-digits, trial 0, seed 0",
        "[1/4] done: softmax,tiny on tiny-digits, trial 0, seed 0, 1 s",
        "begins: turns,tiny on tiny-digits, trial 0, seed 0",
        "[2/4] failed: turns,tiny on tiny-digits, trial 0, seed 0: no data",
        "begins: softmax,tiny on tiny-digits, trial 1, seed 0",
        "stopped: softmax,tiny on tiny-digits, trial 1, seed 0: its process was ended by signal 9",
        "begins again: softmax,tiny on tiny-digits, trial 1, seed 0",
        "[3/4] done: softmax,tiny on tiny-digits, trial 1, seed 0, 1 s",
        "begins: turns,tiny on tiny-digits, trial 1, seed 0",
        "[4/4] done: turns,tiny on tiny-digits, trial 1, seed 0, 1 s",
    ]


def test_live_table(timed):
    board, now = timed
    for number, outcome in ((0, DONE), (1, FAILED)):
        board.started(number)
        board.on_event(number, STARTED)
        now[0] += 90
        board.ended(number, outcome)
    board.started(2)
    board.ended(2, DIED)
    board.started(2)
    board.on_event(2, STARTED)
    board.on_event(2, EpochDone(epoch=0, record={"seconds": 100.0}))
    stream = io.StringIO()
    table = LiveTable(board, 2, stream)
    table.close()
    console = Console(file=stream, width=78)
    stream.truncate(0)
    stream.seek(0)
    console.print(table._picture())
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == [
        "method        done  running  waiting  failed",
        "softmax,tiny     1        1        -       -",
        "turns,tiny       -        -        1       1",
        "",
        "running               trial  seed  epoch  time left",
        "softmax,tiny (try 2)      1     0    2/4      5 min",
        "failed: turns,tiny on tiny-digits, trial 0, seed 0: no data",
        "about 90 s left",
    ]


def test_quiet_shows_nothing(board):
    stream = io.StringIO()
    show = display(board, 1, quiet=True, stream=stream)
    carry_out(board, FakeLauncher({1: [FAILED]}), show=show)
    show.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# --- resources ------------------------------------------------------------------------------------


def test_default_workers(monkeypatch):
    monkeypatch.setattr("openset_core.benching.launchers.processors", lambda: 16)
    assert default_workers(gpus=0, gpus_per_run=1.0, runs=100) == 8
    assert default_workers(gpus=2, gpus_per_run=0.25, runs=100) == 8
    assert default_workers(gpus=2, gpus_per_run=0.25, runs=3) == 3
    assert default_workers(gpus=1, gpus_per_run=0.3, runs=9) == 3
    monkeypatch.setattr("openset_core.benching.launchers.processors", lambda: 1)
    assert default_workers(gpus=0, gpus_per_run=1.0, runs=9) == 2


def test_gpus_are_shared_slot_by_slot(monkeypatch):
    from openset_core.benching import processes
    from openset_core.benching.job import Settings

    monkeypatch.setattr(processes, "visible_gpus", lambda: ["4", "7"])
    launcher = processes.ProcessLauncher(Settings(), Resources(gpus_per_run=0.5), runs=9)
    assert (launcher.slots, launcher._gpus) == (4, ["4", "7", "4", "7"])
    on_cpu = processes.ProcessLauncher(Settings(device="cpu"), Resources(workers=3), runs=9)
    assert (on_cpu.slots, on_cpu._gpus) == (3, [])


def test_gpus_keep_the_names_that_the_user_chose(monkeypatch):
    import torch

    from openset_core.benching.processes import visible_gpus

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb")
    assert visible_gpus() == ["GPU-aa", "GPU-bb"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]


def test_numbers_out_of_range():
    from openset_core.benching.runner import make_execution

    for resources, said in (
        ({"workers": 0}, "'workers' must be >= 1"),
        ({"gpus_per_run": 1.5}, "'gpus_per_run' must be <= 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_execution("inline", retries=0, resources=resources)
    with pytest.raises(ConfigError, match="retries must be 0 or more"):
        make_execution("inline", retries=-1, resources={})
    with pytest.raises(ConfigError, match="no launcher 'proceses'; did you mean processes"):
        make_execution("proceses", retries=0, resources={})
    assert attrs.asdict(make_execution("ray", retries=0, resources={}).resources)["workers"] is None
