"""How runs are given to a launcher, and what is shown meanwhile; nothing is trained here."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from openset_core.benching.job import Job, Outcome, RunProgress
from openset_core.benching.launchers import Resources, default_workers
from openset_core.benching.plan import BenchFile, BenchMethod, make_plan
from openset_core.benching.schedule import run_jobs
from openset_core.benching.status import BenchStatus
from openset_core.cli.bench_display import LiveTable, display
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

    def wait(self, seconds):
        job = self.under_way.pop(0)
        job.write_progress(RunProgress())
        if self.stopped:
            return [(job, STOPPED)]
        outcomes = self.outcomes.get(job.number, [DONE])
        return [(job, outcomes.pop(0) if len(outcomes) > 1 else outcomes[0])]

    def stop(self):
        self.stopped = True

    def close(self):
        self.closed = True


@pytest.fixture
def status(tiny, tmp_path, monkeypatch):
    """Four runs: two methods, two trials; jobs write their progress into the test's folder."""
    monkeypatch.chdir(tmp_path)
    methods = (BenchMethod(plugins="softmax,tiny"), BenchMethod(plugins="turns,tiny"))
    return BenchStatus(make_plan(BenchFile(methods=methods, protocols=("tiny-digits",))).runs)


def execute(status, launcher, retries=2, should_stop=lambda: None, show=lambda: None):
    jobs = [
        Job(number=number, folder=Path("f"), log=Path(f"{number}.log"))
        for number in range(len(status.runs))
    ]
    run_jobs(jobs, launcher, status, show, retries=retries, should_stop=should_stop)
    assert launcher.closed


def states(status):
    return [run.state for run in status.runs]


def test_all_runs_are_done_with_as_many_at_once_as_there_are_slots(status):
    launcher = FakeLauncher({}, slots=3)
    execute(status, launcher)
    assert states(status) == ["done"] * 4
    assert (launcher.started, launcher.most) == ([0, 1, 2, 3], 3)


def test_a_failed_run_is_not_repeated_and_stops_nobody(status):
    launcher = FakeLauncher({1: [FAILED]})
    execute(status, launcher)
    assert states(status) == ["done", "failed", "done", "done"]
    assert launcher.started == [0, 1, 2, 3]
    assert status.runs[1].reason == "no data"


def test_a_run_that_died_is_started_again(status):
    launcher = FakeLauncher({0: [DIED, DIED, DONE]})
    execute(status, launcher)
    assert states(status) == ["done"] * 4
    assert launcher.started.count(0) == status.runs[0].tries == 3


def test_but_not_for_ever(status):
    launcher = FakeLauncher({0: [DIED]})
    execute(status, launcher, retries=1)
    assert states(status) == ["failed", "done", "done", "done"]
    assert launcher.started.count(0) == 2
    assert status.runs[0].reason == "its process was ended by signal 9 (2 times)"


def test_no_retries(status):
    execute(status, FakeLauncher({0: [DIED]}), retries=0)
    assert status.runs[0].reason == "its process was ended by signal 9"


def test_a_run_that_somebody_else_stopped_has_failed(status):
    execute(status, FakeLauncher({2: [STOPPED]}))
    assert status.runs[2].reason == "it was stopped from outside"


def test_when_asked_to_stop_runs_under_way_end_and_no_other_begins(status):
    launcher = FakeLauncher({})
    asked = []

    def should_stop():
        asked.append(1)
        if len(asked) > 1:
            raise Interrupted("interrupted; go on")

    with pytest.raises(Interrupted, match="go on"):
        execute(status, launcher, should_stop=should_stop)
    assert (launcher.started, launcher.under_way) == ([0, 1], [])
    assert states(status) == ["done", "waiting", "waiting", "waiting"]
    assert launcher.stopped
    assert launcher.closed


def test_the_launcher_is_closed_when_something_breaks(status):
    launcher = FakeLauncher({})
    launcher.wait = lambda seconds: 1 / 0
    with pytest.raises(ZeroDivisionError):
        execute(status, launcher)
    assert launcher.closed


# --- what a status knows --------------------------------------------------------------------------


@pytest.fixture
def timed(status):
    """The status with a clock that the test turns."""
    now = [100.0]
    status.clock = lambda: now[0]
    return status, now


def test_a_run_counts_as_running_once_it_says_something(timed):
    status, now = timed
    status.started(0)
    run = status.runs[0]
    assert run.state == "waiting"
    events = (
        (STARTED, RunProgress(epochs=4)),
        (
            StepsDone(epoch=1, step=2, terms={}, rate=0.1, seconds_left=30.0),
            RunProgress(epoch=1, epochs=4, seconds_left=30.0),
        ),
        (
            EpochDone(epoch=1, record={"seconds": 3.0}),
            RunProgress(epoch=2, epochs=4, seconds_left=6.0),
        ),
        (
            StageDone(stage="train", seconds=1.0, detail=""),
            RunProgress(stage="extract", epoch=2, epochs=4),
        ),
    )
    progress = RunProgress()
    for event, expected in events:
        progress = progress.after(event)
        assert progress == expected
        status.progressed(0, progress)
        assert (run.state, run.progress) == ("running", expected)
    now[0] += 12
    status.ended(0, DONE)
    assert (run.state, run.seconds) == ("done", 12)


def test_progress_is_read_whole_or_not_at_all(tmp_path):
    job = Job(number=0, folder=tmp_path, log=tmp_path / "a.b.log")
    assert job.read_progress() is None
    progress = RunProgress(stage="score", epoch=3, epochs=3, seconds_left=0.5)
    job.write_progress(progress)
    assert job.read_progress() == progress
    job.progress_file.write_text("{")
    assert job.read_progress() is None
    job.clear_progress()
    assert list(tmp_path.iterdir()) == []
    Job(number=0, folder=tmp_path, log=tmp_path / "nowhere" / "log").write_progress(progress)


def test_time_left_follows_each_methods_own_runs(timed):
    status, now = timed
    assert status.seconds_left(1) is None
    for number, seconds in ((0, 10.0), (1, 40.0)):
        status.started(number)
        status.progressed(number, RunProgress(epochs=4))
        now[0] += seconds
        status.ended(number, DONE)
    assert status.seconds_left(1) == 50.0
    assert status.seconds_left(2) == 25.0
    status.started(2)
    status.progressed(2, RunProgress(epochs=4))
    now[0] += 4
    assert status.seconds_left(1) == 46.0


# --- what is shown --------------------------------------------------------------------------------


def test_lines(timed):
    status, now = timed
    stream = io.StringIO()
    outcomes = {1: [FAILED], 2: [DIED, DONE]}

    with display(status, 1, quiet=False, stream=stream) as show:

        def tick():
            now[0] += 1
            show()

        execute(status, FakeLauncher(outcomes, slots=1), show=tick)
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
    status, now = timed
    for number, outcome in ((0, DONE), (1, FAILED)):
        status.started(number)
        status.progressed(number, RunProgress(epochs=4))
        now[0] += 90
        status.ended(number, outcome)
    status.started(2)
    status.ended(2, DIED)
    status.started(2)
    status.progressed(2, RunProgress(epochs=4))
    status.progressed(2, RunProgress(epoch=1, epochs=4, seconds_left=300.0))
    stream = io.StringIO()
    Console(file=stream, width=78).print(LiveTable(status, 2).render())
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


def test_quiet_shows_nothing(status):
    stream = io.StringIO()
    with display(status, 1, quiet=True, stream=stream) as show:
        execute(status, FakeLauncher({1: [FAILED]}), show=show)
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


def test_gpus_and_processors_are_shared_slot_by_slot(monkeypatch):
    from openset_core.benching import processes
    from openset_core.benching.job import WorkerConfig

    def environments(resources, device="auto"):
        config = WorkerConfig(execute=print, device=device)
        launcher = processes.ProcessLauncher(config, Resources(**resources), runs=9)
        assert launcher.slots == len(launcher._slots)
        return [slot.environment for slot in launcher._slots]

    monkeypatch.setattr(processes, "visible_gpus", lambda: ["4", "7"])
    monkeypatch.setattr(processes, "processors", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shares = environments({"gpus_per_run": 0.5})
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "7", "4", "7"]
    assert {share["OMP_NUM_THREADS"] for share in shares} == {"2"}
    assert environments({"workers": 3}, device="cpu") == [{"OMP_NUM_THREADS": "2"}] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert environments({"workers": 3}, device="cpu") == [{}] * 3
    assert environments({"workers": 1, "threads": 5}, device="cpu") == [{"OMP_NUM_THREADS": "5"}]


def test_gpus_keep_the_names_that_the_user_chose(monkeypatch):
    import torch

    from openset_core.benching.launchers import visible_gpus

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb")
    assert visible_gpus() == ["GPU-aa", "GPU-bb"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]


def test_numbers_out_of_range():
    from openset_core.benching.runner import make_execution

    def make(launcher="inline", retries=0, **resources):
        return make_execution(launcher, execute=print, retries=retries, resources=resources)

    for resources, said in (
        ({"workers": 0}, "'workers' must be >= 1"),
        ({"gpus_per_run": 1.5}, "'gpus_per_run' must be <= 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            make(**resources)
    with pytest.raises(ConfigError, match="retries must be 0 or more"):
        make(retries=-1)
    with pytest.raises(ConfigError, match="no launcher 'proceses'; did you mean processes"):
        make("proceses")
    assert make("ray").resources.workers is None
