"""Benches from end to end: what is run, repeated, gone on with, and written."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import attrs
import pytest

import openset_core
from openset_core import pipeline
from openset_core.benching.folder import BenchFolder
from openset_core.benching.plan import BenchFile, BenchMethod, make_plan
from openset_core.benching.runner import make_execution, run_bench
from openset_core.benching.status import BenchStatus
from openset_core.cli.bench import spread
from openset_core.errors import ConfigError
from openset_core.files import sha256
from openset_core.report.bench_page import write_bench_page

PATIENCE = 90.0
"""Seconds that a child process is waited for, on a machine that has other work too."""

METHODS = ("softmax,tiny", "turns,tiny")
OPTIONS = ("--protocol", "tiny-digits", "--epochs", "3", "--device", "cpu")
ASKED = ("bench", *OPTIONS, "--plugins", *METHODS)
RUNS = 4  # two methods, two trials

pytestmark = pytest.mark.usefixtures("tiny")


def request(**changes):
    values = {
        "methods": tuple(BenchMethod(plugins=method) for method in METHODS),
        "protocols": ("tiny-digits",),
        "set": {"training": {"epochs": 3}},
    }
    return BenchFile(**values | changes)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the bench that nothing disturbs is kept for the other tests."""
    return tmp_path_factory.mktemp("bench") / "whole"


@pytest.fixture
def whole(tiny, kept, tmp_path):
    """A test's own copy of a bench that nothing disturbed."""
    if not kept.exists():
        how = attrs.evolve(execution(), make_page=write_bench_page)
        run_bench(make_plan(request()), kept, how)
    return shutil.copytree(kept, tmp_path / "whole")


def execution(launcher="inline", **more):
    usual = {"retries": 2, "device": "cpu", "report": False}
    resources = {"workers": 2, "threads": 1} | more.pop("resources", {})
    return make_execution(launcher, execute=pipeline.execute, resources=resources, **usual | more)


def weights_of(bench):
    return {
        path.parent.parent.name: sha256(path)
        for path in sorted(bench.glob("runs/*/model/weights.safetensors"))
    }


def times_of(bench):
    return {path: path.stat().st_mtime_ns for path in bench.glob("runs/**/*") if path.is_file()}


def same_bench(first, second):
    """Whether two benches have the same networks and the same tables."""
    assert weights_of(first) == weights_of(second)
    assert len(weights_of(first)) == RUNS
    for name in ("results.csv", "differences.csv", "results.md", "results.tex"):
        assert (first / name).read_text() == (second / name).read_text(), name
    return True


# --- the command ----------------------------------------------------------------------------------


def test_bench(openset, whole, tmp_path):
    """The undisturbed bench was made from Python, this one by the command."""
    out = tmp_path / "out"
    answer = openset(*ASKED, "--out", out)
    assert answer.code == 0
    assert same_bench(out, whole)
    assert answer.err.splitlines()[0] == (
        f"2 methods on tiny-digits, 2 trials, 1 seed: 4 runs; launcher inline; folder {out}"
    )
    assert answer.err.count("begins: ") == RUNS
    lines = answer.out.splitlines()
    assert lines[0] == "tiny-digits: percent"
    assert lines[1].split() == ["method", "scorer", "Accuracy", "AUROC", "Macro-F1"]
    assert [line.split()[:2] for line in lines[3:5]] == [
        ["softmax,tiny", "msp"],
        ["turns,tiny", "max-logit"],
    ]
    assert "4 of 4 runs done, 0 failed" in lines
    assert "An Invented Paper, Table 1" in answer.out
    assert {path.name for path in out.iterdir() if path.name != ".lock"} == {
        "bench.toml",
        "differences.csv",
        "figures",
        "report.html",
        "results.csv",
        "results.json",
        "results.md",
        "results.tex",
        "runs",
        "runs.csv",
    }
    assert {"means.png", "means.svg", "differences.png"} <= {
        path.name for path in (out / "figures").iterdir()
    }
    page = (out / "report.html").read_text()
    assert "<h1>2 methods on tiny-digits</h1>" in page
    assert "openset bench out/bench.toml --out out-again" in page
    assert "An Invented Paper, Table 1" in page
    for file in ("results.csv", "figures/", "bench.toml"):
        assert f'<a href="{file}">' in page
    # What is shown is what the runs' own files say.
    with (out / "runs.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["rule"] == "exact"]
    assert len(rows) == RUNS
    for row in rows:
        own = Path(row["folder"], "report.html")
        assert own.exists()
        assert f'href="{own.relative_to(out)}"' in page
        results = json.loads((out / "runs" / row["folder"] / "results.json").read_text())
        assert float(row["auroc"]) == results["scorers"][row["scorer"]]["metrics"]["auroc"]
    heading = (out / "results.md").read_text().splitlines()[:3]
    assert heading[0] == "# 2 methods on tiny-digits"
    assert heading[2].startswith("2 trials, 1 seed; on cpu, fp32; openset ")
    values = json.loads((out / "results.json").read_text())
    assert values["bench"]["methods"] == [{"plugins": m, "name": "", "set": {}} for m in METHODS]
    assert (values["failed"], len(values["runs"])) == ([], 2 * RUNS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--plugins", "softmax,tiny", "turns,tiny", "--trials", "all"),
        ("-p", "softmax,tiny", "--plugins", "turns,tiny"),
        ("--seeds", "0,", "--plugins=softmax,tiny", "turns,tiny", "--trials", "0,1"),
        ("--plugins", "softmax, tiny", "--seeds", "1", "-p", "turns,tiny"),
    ],
)
def test_several_methods_after_one_option(openset, whole, arguments):
    """However the same bench is asked for, it is the one that is done already."""
    before = times_of(whole)
    answer = openset("bench", *OPTIONS, *arguments, "--out", whole)
    assert answer.code == 0
    assert "4 runs, 4 of them done" in answer.err
    assert "begins" not in answer.err
    assert times_of(whole) == before


def test_methods_keep_the_order_in_which_they_are_written():
    written = ["x.toml", "-p", "a", "b", "--seeds", "3", "--plugins=c", "d", "-q"]
    assert spread(written, ("-p", "--plugins")) == [
        "x.toml", "-p", "a", "-p", "b", "--seeds", "3", "--plugins=c", "--plugins", "d", "-q"
    ]  # fmt: skip


def test_methods_in_another_order_are_another_bench(openset, whole):
    answer = openset("bench", *OPTIONS, "--out", whole, "-p", *reversed(METHODS))
    assert answer.code == 2
    assert "holds another bench (different: methods); choose another folder" in answer.err


def test_a_bench_folder_is_gone_on_with_and_nothing_is_repeated(openset, whole):
    before, tables = times_of(whole), (whole / "results.md").read_text()
    (whole / "results.md").unlink()
    answer = openset("bench", whole, "--quiet", "--device", "cpu")
    assert (answer.code, answer.err) == (0, "")
    assert times_of(whole) == before
    assert (whole / "results.md").read_text() == tables


def test_the_page_is_made_again_when_something_changed(openset, whole):
    def again(*options):
        answer = openset("bench", whole, "--quiet", "--device", "cpu", *options)
        assert answer.code == 0
        return (whole / "report.html").stat().st_mtime_ns

    made = again()
    assert again() == made
    run = next((whole / "runs").iterdir())
    (run / "report.html").write_text("the run's own page")
    assert again("--no-report") == made
    assert again() > made
    assert f'href="runs/{run.name}/report.html"' in (whole / "report.html").read_text()


def test_only_what_is_missing_is_run(openset, whole, kept):
    gone = "tiny-digits-turns-tiny-trial1-seed0"
    (folder,) = (path for path in (whole / "runs").iterdir() if path.name.startswith(gone))
    before = {p: t for p, t in times_of(whole).items() if folder not in p.parents}
    shutil.rmtree(folder)
    answer = openset("bench", whole, "--device", "cpu", "--no-report")
    assert answer.err.count("begins") == 1
    assert before.items() <= times_of(whole).items()
    assert same_bench(whole, kept)


def test_damaged_results_are_made_again_without_training(openset, whole, kept):
    damaged = next((whole / "runs").glob("*turns*")) / "results.json"
    damaged.write_text("{")
    trained = {p: t for p, t in times_of(whole).items() if "model" in p.parts}
    answer = openset("bench", whole, "--device", "cpu")
    assert (answer.code, answer.err.count("begins")) == (0, 1)
    assert trained.items() <= times_of(whole).items()
    assert same_bench(whole, kept)


def test_the_reference_may_change_afterwards(openset, whole):
    answer = openset("bench", whole, "--reference", "turns,tiny", "--device", "cpu", "-q")
    assert "difference to turns,tiny max-logit" in answer.out
    assert tomllib.loads((whole / "bench.toml").read_text())["reference"] == "turns,tiny"


def test_compare_reads_a_bench(openset, whole):
    answer = openset("compare", whole)
    assert answer.code == 0
    assert "Average ranks over 2 trials" in answer.out
    one = openset("compare", whole, "--format", "csv").out
    assert one == (whole / "results.csv").read_text()


def test_a_failed_run_is_listed_and_stops_nobody(openset, tmp_path):
    file = tmp_path / "table.toml"
    file.write_text(
        'protocols = ["tiny-digits"]\ntrials = [0]\nreference = "broken"\n'
        '[[methods]]\nplugins = "softmax,tiny"\n'
        '[[methods]]\nname = "broken"\nplugins = "turns,tiny"\n[methods.set.turns]\nnan_epoch = 1\n'
        '[[methods]]\nplugins = "rpl,tiny"\n'
    )
    out = tmp_path / "out"
    answer = openset("bench", file, "--out", out, "--device", "cpu")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert "2 of 3 runs done, 1 failed" in lines
    reason = "training stopped in epoch 1, step 2: term fit of phase first is no longer a finite"
    assert any(
        line.startswith(f"  failed: broken on tiny-digits, trial 0, seed 0: {reason}")
        for line in lines
    )
    assert f"try these again: openset bench {out}" in lines
    assert "broken has no finished run; the others are compared with softmax,tiny msp" in answer.out
    assert "rpl,tiny" in (out / "results.md").read_text()
    assert reason in (out / "results.md").read_text()
    assert reason in (out / "report.html").read_text()
    (failed,) = json.loads((out / "results.json").read_text())["failed"]
    assert failed["name"].startswith("tiny-digits-turns-tiny")


def test_a_defect_in_a_plugin_leaves_its_traceback(openset, tmp_path, monkeypatch):
    from openset_tiny.parts import Tiny

    monkeypatch.setattr(Tiny, "forward", lambda self, images: {}["no such key"])
    out = tmp_path / "out"
    answer = openset(
        "bench", *OPTIONS, "-p", "softmax,tiny", "--trials", "0", "--out", out, "--quiet"
    )
    assert answer.code == 1
    assert answer.out.startswith("\n0 of 1 runs done, 1 failed")
    (log,) = (out / "logs").iterdir()
    assert f"KeyError: 'no such key'; the traceback is in {log}" in answer.out
    assert "Traceback" in log.read_text()
    assert not (out / "results.md").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a bench needs at least one method"),
        (["softmax,tiny"], "'softmax,tiny' is neither a bench TOML nor a bench folder; methods"),
        (["-p", "softmax,tiny", "turns,tiny", "sofmax,tiny"], "method 'sofmax,tiny': no component"),
        (["-p", "softmax,tiny", "--seeds", "x"], "--seeds 'x' is not a number of seeds, nor"),
        (["-p", "softmax,tiny", "--seeds", "0"], "seeds must be at least 1"),
        (["-p", "softmax,tiny", "--seeds", "1,1"], "seeds names one twice: 1, 1"),
        (["-p", "softmax,tiny", "--trials", "first"], "--trials 'first' is not \"all\", nor"),
        (["-p", "softmax,tiny", "--trials", "9"], "there is no trial 9"),
        (["-p", "softmax,tiny", "--set", "nope.x=1"], "'nope' are given, which no method"),
        (["-p", "softmax,tiny", "--workers", "0"], "'workers' must be >= 1"),
        (["-p", "softmax,tiny", "--reference", "rpl"], "no method is called 'rpl'"),
        (["nowhere.toml"], "nowhere.toml does not exist"),
        (["."], "is not a bench: it has no bench.toml"),
    ],
)
def test_mistakes_on_the_command_line(openset, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    answer = openset("bench", "--protocol", "tiny-digits", *arguments)
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_from_python(whole):
    bench = openset_core.bench(
        METHODS, "tiny-digits", epochs=3, out=whole, device="cpu", reference="turns,tiny"
    )
    assert (bench.failed, bench.folder) == ((), whole)
    (setting,) = bench.comparison.settings
    method = bench.comparison.methods[0]
    assert bench.comparison.estimate(setting, method, "auroc").units == 2
    assert "difference to turns,tiny max-logit" in bench.table()
    assert bench.page == whole / "report.html"
    named = openset_core.bench(file=whole, device="cpu", report=False)
    assert named.page is None
    assert named.comparison.methods == bench.comparison.methods


def test_ray_is_an_extra(whole, monkeypatch):
    shutil.rmtree(next((whole / "runs").iterdir()))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--launcher ray needs Ray: python -m pip install"):
        openset_core.bench(file=whole, launcher="ray")


def test_a_ray_that_does_not_start_is_one_sentence(whole, monkeypatch):
    """Ray itself raises plain exceptions, with advice over several lines."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def late(*_arguments, **_options):
        raise Exception("The current node timed out during startup.\nLook at the logs.")

    shutil.rmtree(next((whole / "runs").iterdir()))
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(ConfigError) as raised:
        openset_core.bench(file=whole, launcher="ray")
    assert str(raised.value) == (
        "Ray cannot start or reach a local cluster: The current node timed out during startup."
    )


# --- disturbed ------------------------------------------------------------------------------------


LAUNCHERS = ("inline", "processes", "ray", "slurm")


def resources_of(launcher):
    """What a launcher needs here, or a skip; Slurm's jobs run on this machine."""
    if launcher in ("ray", "slurm"):
        pytest.importorskip({"ray": "ray", "slurm": "submitit"}[launcher])
    return {"slurm": {"cluster": "local"}} if launcher == "slurm" else {}


@pytest.mark.parametrize("launcher", ["processes", "ray", "slurm"])
def test_a_run_whose_worker_is_killed_goes_on_from_its_checkpoint(
    launcher, whole, tmp_path, monkeypatch
):
    resources = resources_of(launcher)
    if launcher == "slurm":  # seconds that a slow storage gets to show a job's result
        monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)
    kill, out = tmp_path / "kill", tmp_path / "out"
    monkeypatch.setenv("OPENSET_TINY_KILL", str(kill))
    monkeypatch.setenv("OPENSET_TINY_SLEEP", "0.05")
    statuses = []

    @contextlib.contextmanager
    def display(status: BenchStatus, slots):
        """Has a worker killed as soon as there is a checkpoint."""
        assert slots == 2
        statuses.append(status)
        asked = []

        def show():
            if not asked and any(out.glob("runs/*/checkpoints/last.pt")):
                asked.append(kill.touch())

        yield show

    bench = run_bench(
        make_plan(request()), out, execution(launcher, display=display, resources=resources)
    )
    assert bench.failed == ()
    assert not kill.exists()
    (status,) = statuses
    assert sorted(run.tries for run in status.runs) == [1, 1, 1, 2]
    (again,) = (run for run in status.runs if run.tries == 2)
    history = openset_core.load_run(out / "runs" / again.planned.name).history
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert same_bench(out, whole)


def wait_for(process, happened):
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers_of(process):
    """Process ids of the children."""
    listed = f"/proc/{process.pid}/task/{process.pid}/children"
    if not os.path.exists(listed):
        pytest.skip("this system does not tell a process's children")
    with open(listed) as file:
        numbers = file.read().split()
    commands = {number: Path(f"/proc/{number}/cmdline").read_text() for number in numbers}
    # multiprocessing's resource tracker is a child too
    return [int(number) for number, command in commands.items() if "spawn_main" in command]


def alive(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_half_way_and_gone_on_with(whole, tmp_path, start, openset):
    out = tmp_path / "out"
    process = start(
        *ASKED, "--out", out, "--launcher", "processes", "--workers", "1", "--no-report",
        OPENSET_TINY_SLEEP="0.05",
    )  # fmt: skip
    wait_for(process, lambda: any(out.glob("runs/*/results.json")))
    (worker,) = workers_of(process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    # The worker notices at once: nobody may write into folders that the next bench works on.
    deadline = time.monotonic() + PATIENCE
    while alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    done = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/results.json")}
    assert 1 <= len(done) < RUNS
    answer = openset("bench", out, "--device", "cpu", "--no-report")
    assert answer.code == 0
    assert answer.err.count("begins") == RUNS - len(done)
    assert done.items() <= times_of(out).items()
    assert same_bench(out, whole)


def test_ctrl_c_says_how_to_go_on_and_that_works(whole, tmp_path, start, openset):
    out = tmp_path / "out"
    process = start(
        *ASKED, "--out", out, "--launcher", "processes", "--workers", "1", "--no-report",
        OPENSET_TINY_SLEEP="0.05",
    )  # fmt: skip
    wait_for(process, lambda: any(out.glob("runs/*/checkpoints/last.pt")))
    (worker,) = workers_of(process)
    process.send_signal(signal.SIGINT)
    out_text, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out_text) == (2, "")
    assert not alive(worker)
    advised = re.search(
        r"error: interrupted; what was finished is kept, go on with: openset (.*)\n", err
    )
    assert advised[1] == f"bench {out}"
    assert any(out.glob("runs/*/checkpoints/last.pt"))
    assert openset(*advised[1].split(), "--device", "cpu", "--no-report").code == 0
    assert same_bench(out, whole)
    assert BenchFolder(out).read().asked() == BenchFolder(whole).read().asked()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_gives_the_same_and_a_failed_run_stops_nobody(launcher, tmp_path):
    """The last method fails; the others are what `whole` has."""
    resources = resources_of(launcher)
    broken = BenchMethod(name="broken", plugins="turns,tiny", set={"turns": {"nan_epoch": 1}})
    plan = make_plan(request(methods=(BenchMethod(plugins="softmax,tiny"), broken), trials=(0,)))
    out = tmp_path / "out"
    bench = run_bench(plan, out, execution(launcher, resources=resources))
    (failed,) = bench.failed
    assert "term fit of phase first is no longer a finite number" in failed.reason
    (done,) = weights_of(out).values()
    alone = openset_core.run(
        "softmax,tiny", "tiny-digits", epochs=3, device="cpu", out=tmp_path / "alone"
    )
    assert done == sha256(alone.folder / "model" / "weights.safetensors")
    assert not (out / "logs").exists()  # nothing was printed, and no file about progress is left


def test_a_script_without_a_main_guard_may_start_workers(whole, tmp_path):
    """A worker does not import the script that started it, which would start the bench again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import openset_core\n"
        "print('runs once')\n"
        f"openset_core.bench(file={str(whole)!r}, launcher='processes', workers=1, device='cpu',\n"
        "    report=False)\n"
    )
    shutil.rmtree(next((whole / "runs").iterdir()))
    command = [sys.executable, str(script)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (answer.returncode, answer.stdout) == (0, "runs once\n"), answer.stderr
    assert len(list(whole.glob("runs/*/results.json"))) == RUNS


# --- Slurm ----------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path):
    """Makes a Slurm launcher with these options, whose jobs run on this machine."""
    pytest.importorskip("submitit")
    from openset_core.benching.job import WorkerConfig
    from openset_core.benching.launchers import Resources
    from openset_core.benching.slurm_launcher import SlurmLauncher

    def make(workers=None, threads=None, device="auto", gpus_per_run=1.0, **options):
        resources = Resources(
            workers=workers,
            threads=threads,
            gpus_per_run=gpus_per_run,
            slurm={"cluster": "local"} | options,
        )
        config = WorkerConfig(execute=print, device=device)
        return SlurmLauncher(config, resources, 4, tmp_path / "slurm")

    return make


def test_options_of_slurm(slurm):
    launcher = slurm(workers=2, device="cpu")
    assert launcher.slots == 2
    usual = launcher._parameters({}, launcher_resources())
    assert usual["gpus_per_node"] == 0
    options = {"time": "90", "gpus": "2", "cpus": "8", "memory": "32", "partition": "gpu"}
    chosen = slurm()._parameters(dict(options), launcher_resources())
    assert (chosen["timeout_min"], chosen["gpus_per_node"]) == (90, 2)
    assert (chosen["cpus_per_task"], chosen["mem_gb"]) == (8, 32)
    assert chosen["slurm_additional_parameters"] == {"partition": "gpu"}
    with pytest.raises(ConfigError, match="time=soon is not a whole number"):
        slurm(time="soon")
    with pytest.raises(ConfigError, match="gpus=N instead of --gpus-per-run"):
        slurm(gpus_per_run=0.5)


def launcher_resources():
    from openset_core.benching.launchers import Resources

    return Resources()


def test_without_slurm_the_launcher_says_so(whole, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    shutil.rmtree(next((whole / "runs").iterdir()))
    with pytest.raises(ConfigError, match=r"--launcher slurm cannot be used: .*srun"):
        openset_core.bench(file=whole, launcher="slurm")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"python -m pip install 'openset\[slurm\]'"):
        openset_core.bench(file=whole, launcher="slurm")


def test_a_slurm_job_that_dies_or_runs_out_of_time_is_told_with_its_log(slurm, monkeypatch):
    from openset_core.benching.job import Outcome

    launcher = slurm()
    log = launcher._folder / "7_0_log.out"

    class Ended:
        job_id, state = "7", "OUT_OF_MEMORY"

        def __init__(self, result):
            from submitit.core.utils import JobPaths

            self.paths = JobPaths(launcher._folder, "7", 0)
            self.result = result

    log.write_text("slurmstepd: oom-kill")
    outcome = launcher._outcome(Ended(lambda: 1 / 0))
    assert outcome.state == "died"
    assert outcome.reason == (
        f"its Slurm job 7 died in state OUT_OF_MEMORY; the log of its job is {log}"
    )
    late = Outcome(
        state="failed", reason="UncompletedJobError: Job not requeued because: timed-out"
    )
    outcome = launcher._outcome(Ended(lambda: late))
    assert outcome.state == "died"
    assert f"ran out of time; give more by --slurm time=MINUTES; the log of its job is {log}" in (
        outcome.reason
    )
    assert log.exists()
    assert launcher._outcome(Ended(lambda: Outcome(state="done"))).state == "done"
    assert not log.exists()
