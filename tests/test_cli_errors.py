"""A user's mistakes on the command line: exit code 2 and one sentence, nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openset_core import BackboneSpec, RepresentationLossSpec, UnknownScorerSpec, pipeline
from openset_core.cli import main
from openset_core.errors import ConfigError, PluginError, RunFolderError
from openset_core.experiment.experiment import resolve
from openset_core.registry import BrokenPlugin, Component, registry
from openset_core.run_folder import initialize_folder

SOFTMAX = ("run", "--quiet", "-p", "softmax,vgg13")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Default run folders and relative paths of a test stay its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def refused(openset):
    """Run a command that must fail, and give its sentence."""

    def call(*arguments):
        answer = openset(*arguments)
        assert answer.code == 2
        assert answer.out == ""
        (line,) = answer.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return call


@pytest.fixture
def offer(monkeypatch):
    """Add specs to the installed components."""

    def add(*specs, distribution="elsewhere"):
        added = [Component(spec=spec, distribution=distribution, version="1.0") for spec in specs]
        monkeypatch.setattr(registry(), "components", [*registry().components, *added])

    return add


# ---- wrong arguments

BAD_ARGUMENTS = {
    "unknown plugin": (
        ["run", "-p", "softmx,vgg13"],
        ["no component is called 'softmx'", "did you mean softmax", "installed: "],
    ),
    "unknown kind": (["run", "-p", "los:softmax,vgg13"], ["no component is called 'los:softmax'"]),
    "family that is not there": (
        ["run", "-p", "nope:resnet"],
        ["no component is called 'nope:resnet'"],
    ),
    "two losses": (
        ["run", "-p", "softmax,vgg13,m2iosr"],
        ["softmax and m2iosr are 2 components of kind loss"],
    ),
    "wrong type": (
        [*SOFTMAX, "--set", "training.epochs=3.9"],
        ["training.epochs expects int, not 3.9"],
    ),
    "text for a number": (
        [*SOFTMAX, "--set", "training.lr=fast"],
        ["training.lr expects float, not 'fast'"],
    ),
    "text for true or false": (
        [*SOFTMAX, "--set", "softmax.bias=no"],
        ["softmax.bias expects true or false, not 'no'"],
    ),
    "out of range": (
        [*SOFTMAX, "--set", "training.lr=-1"],
        ["training.lr: 'lr' must be > 0.0: -1"],
    ),
    "betas out of range": (
        [*SOFTMAX, "--set", "training.optimizer=adam", "--set", "training.betas=[2, 3]"],
        ["training.betas: 'betas' must be < 1.0: 2.0"],
    ),
    "channels out of range": (
        ["run", "-p", "m2iosr,vgg13", "--set", "m2iosr.global_channels=[-1, 2]"],
        ["m2iosr.global_channels: 'global_channels' must be >= 1: -1"],
    ),
    "no epoch": ([*SOFTMAX, "--epochs", "0"], ["training.epochs: 'epochs' must be >= 1: 0"]),
    "unknown key": (
        [*SOFTMAX, "--set", "training.learning_rate=1"],
        ["training has no option 'learning_rate'"],
    ),
    "key of a component without options": (
        [*SOFTMAX, "--set", "vgg13.depth=3"],
        ["vgg13 has no option 'depth'; it has no options"],
    ),
    "unknown section": (
        [*SOFTMAX, "--set", "trainig.lr=1"],
        ["'trainig'", "did you mean training?", "it has msp, softmax, training, vgg13"],
    ),
    "section of a component that is not chosen": (
        [*SOFTMAX, "--set", "m2iosr.gamma=1"],
        ["options for 'm2iosr' are given, which is not part of this experiment"],
    ),
    "no assignment": (
        [*SOFTMAX, "--set", "training.lr"],
        ["--set 'training.lr' is not of the form"],
    ),
    "no section": ([*SOFTMAX, "--set", "lr=1"], ["--set 'lr=1' is not of the form"]),
    "assignment twice": (
        [*SOFTMAX, "--set", "training.lr=1", "--set", "training.lr=2"],
        ["--set gives training.lr twice"],
    ),
    "unknown protocol": (
        [*SOFTMAX, "--protocol", "mnits"],
        ["no protocol is called 'mnits'", "did you mean mnist"],
    ),
    "protocol file that is not there": (
        [*SOFTMAX, "--protocol", "gone.toml"],
        ["protocol gone.toml does not exist"],
    ),
    "trial that does not exist": (
        [*SOFTMAX, "--trial", "99"],
        ["protocol digits has trials 0 to 4, there is no trial 99"],
    ),
    "negative trial": ([*SOFTMAX, "--trial", "-1"], ["there is no trial -1"]),
    "negative seed": ([*SOFTMAX, "--seed", "-1"], ["seed -1 must be 0 or more"]),
    "trial and trials": (
        [*SOFTMAX, "--trial", "1", "--trials", "all"],
        ["--trial and --trials exclude each other"],
    ),
    "trials of another form": (
        [*SOFTMAX, "--trials", "first"],
        ["--trials 'first' is neither \"all\" nor numbers like 0,2,4"],
    ),
    "no device": ([*SOFTMAX, "--devices", "0"], ["--devices 0 must be at least 1"]),
    "experiment that is not there": (["run", "gone.toml"], ["experiment gone.toml does not exist"]),
    "run of a folder that is none": (["run", "."], [". is not a run folder"]),
    "show of no folder": (
        ["show", "gone"],
        ["gone is not a run folder: it has no experiment.toml"],
    ),
    "train of no folder": (["train", "gone"], ["gone is not a run folder"]),
    "extract of no folder": (["extract", "gone"], ["gone is not a run folder"]),
    "score of no folder": (["score", "gone"], ["gone is not a run folder"]),
    "show of an unknown plugin": (["plugins", "show", "softmx"], ["did you mean softmax"]),
    "show of an unknown protocol": (["protocols", "show", "mnits"], ["did you mean mnist"]),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_a_mistake_is_one_sentence(refused, case):
    arguments, expected = BAD_ARGUMENTS[case]
    sentence = refused(*arguments)
    for fragment in expected:
        assert fragment in sentence
    assert list(Path.cwd().iterdir()) == []  # nothing was begun


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "--trial", "one"], "'one' is not a valid integer"),
        (["run", "--device", "tpu"], "'tpu' is not one of 'auto', 'cpu'"),
        (["run", "--plugin", "softmax"], "No such option"),
        (["ran"], "No such command"),
        (["show"], "Missing argument"),
    ],
)
def test_a_malformed_command_is_told_with_its_usage(openset, arguments, reason):
    answer = openset(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert "Usage: openset" in answer.err
    assert reason in answer.err
    assert "Traceback" not in answer.err


def test_a_mistake_in_the_last_trial_costs_no_training(refused, monkeypatch):
    begun = []
    monkeypatch.setattr(pipeline, "execute", lambda *arguments: begun.append(arguments))
    assert "there is no trial 99" in refused(*SOFTMAX, "--trials", "0,1,99")
    assert begun == []


# ---- components that do not fit


def test_m2iosr_on_a_backbone_without_maps_is_refused(refused, offer):
    offer(BackboneSpec(name="flat", summary="no maps", factory="nowhere:build"))
    sentence = refused("run", "-p", "m2iosr,flat")
    assert "loss m2iosr needs feature maps, which flat does not provide" in sentence


def test_two_distributions_with_one_name_are_refused_naming_both(refused, offer):
    offer(UnknownScorerSpec(name="msp", summary="another", factory="nowhere:build"))
    sentence = refused("run", "-p", "softmax,vgg13,msp")
    for words in ("openset ", "elsewhere 1.0", "openset/scorer:msp or elsewhere/scorer:msp"):
        assert words in sentence
    sentence = refused("run", "-p", "softmax,vgg13,elsewhere/scorer:msp", "--trial", "99")
    assert "there is no trial 99" in sentence


def test_a_plugin_that_failed_to_load_gives_its_reason(refused, monkeypatch):
    broken = BrokenPlugin(
        entry_point="fancy", distribution="fancy-dist", version="0.3", reason="ImportError: no cv2"
    )
    monkeypatch.setattr(registry(), "broken", [broken])
    sentence = refused("run", "-p", "fancy,vgg13")
    assert sentence == (
        "fancy is not available: plugin fancy of fancy-dist 0.3: ImportError: no cv2"
    )


def test_the_list_of_plugins_shows_what_failed_and_bears_poor_texts(openset, offer, monkeypatch):
    broken = BrokenPlugin(entry_point="e", distribution="d", version="0.3", reason="a reason")
    monkeypatch.setattr(registry(), "broken", [broken])
    offer(UnknownScorerSpec(name="mute", summary="", factory="nowhere:build"))
    answer = openset("plugins")
    assert answer.code == 0
    assert "mute" in answer.out
    assert "failed to load:\n  plugin e of d 0.3: a reason\n" in answer.out


def test_only_scorers_are_added_to_a_run(refused):
    initialize_folder(Path("run"), resolve("softmax,vgg13"))
    sentence = refused("score", "run", "-p", "m2iosr")
    assert "m2iosr is a loss; `openset score` adds scorers only" in sentence


# ---- experiment files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('protocl = "digits"\n', "e.toml has no option 'protocl'; did you mean protocol?"),
        ("[traning]\nlr = 0.1\n", "options for 'traning' are given"),
        ("[softmax]\nbais = true\n", "softmax has no option 'bais'; did you mean bias?"),
        ("[training]\nlr = 'x'\n", "training.lr expects float, not 'x'"),
        ("training = 3\n", "e.toml.training expects a table, not 3"),
        ("plugins = 'softmax'\n", "e.toml.plugins expects list of text, not 'softmax'"),
        ("plugins = ['softmx']\n", "no component is called 'softmx'; did you mean softmax"),
        ("trial = -1\n", "e.toml.trial: 'trial' must be >= 0: -1"),
        ("trial = 7\n", "there is no trial 7"),
        ("seed = true\n", "e.toml.seed expects int, not True"),
        ("plugins = \n", "experiment e.toml is not valid TOML: "),
        ("seed = 1\nseed = 2\n", "experiment e.toml is not valid TOML: "),
        ("softmax = 1\n", "e.toml has no option 'softmax'"),
        (b"a = '\xff'", "experiment e.toml cannot be read: "),
    ],
)
def test_an_experiment_file_that_cannot_be_meant_is_refused(refused, text, expected):
    Path("e.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert expected in refused("run", "e.toml")


# ---- run folders


def test_a_file_is_no_run_folder(refused):
    Path("file").write_text("mine")
    assert "file is a file, not a folder" in refused(*SOFTMAX, "--out", "file")
    assert Path("file").read_text() == "mine"


def test_a_folder_with_other_files_is_left_alone(refused):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("chapter 1")
    assert "mine is not empty and no run folder" in refused(*SOFTMAX, "--out", "mine")
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.tex"]


def test_a_folder_below_a_file_is_refused(refused):
    Path("file").write_text("mine")
    assert "a part of the path is a file" in refused(*SOFTMAX, "--out", "file/run")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_folder_that_even_root_cannot_make_is_refused(refused):
    sentence = refused(*SOFTMAX, "--out", "/proc/openset-run")
    assert "/proc/openset-run/experiment.toml cannot be written: " in sentence


def test_a_name_too_long_for_the_file_system_is_refused(refused):
    assert " cannot be written: " in refused(*SOFTMAX, "--out", "x" * 300)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up; free some space"),
        (errno.EACCES, "permission denied; choose another folder with --out"),
        (errno.EROFS, "the file system is read-only; choose another folder with --out"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_disk_that_takes_no_more_is_told_and_leaves_no_scraps(
    refused, monkeypatch, number, reason
):
    def fail(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    sentence = refused(*SOFTMAX, "--out", "run")
    assert sentence.startswith("run/experiment.toml cannot be written: ")
    assert reason in sentence
    assert list(Path("run").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "different"),
    [
        (["-p", "m2iosr,vgg13"], "m2iosr, softmax"),
        (["-p", "softmax,vgg13", "--seed", "1"], "seed"),
        (["-p", "softmax,vgg13", "--trial", "1"], "trial"),
        (["-p", "softmax,vgg13", "--set", "softmax.bias=false"], "softmax.bias"),
        (["-p", "softmax,vgg13", "--set", "training.lr=0.007"], "training.lr"),
    ],
)
def test_a_folder_of_another_experiment_is_refused_naming_the_difference(
    refused, arguments, different
):
    initialize_folder(Path("run"), resolve("softmax,vgg13"))
    Path("run/metrics.jsonl").write_text("", encoding="utf-8")  # training began
    before = Path("run/experiment.toml").read_bytes()
    sentence = refused("run", "--quiet", *arguments, "--out", "run")
    assert sentence.startswith("run holds another experiment (different: ")
    assert different in sentence
    assert Path("run/experiment.toml").read_bytes() == before


def test_a_part_of_another_distribution_is_another_experiment(refused, offer):
    for owner in ("alpha", "beta"):
        twin = RepresentationLossSpec(
            name="twin", summary="s", factory="nowhere:build", default_scorers=("msp",)
        )
        offer(twin, distribution=owner)
    initialize_folder(Path("run"), resolve("alpha/loss:twin,vgg13"))
    Path("run/metrics.jsonl").write_text("", encoding="utf-8")  # training began
    sentence = refused("run", "--quiet", "-p", "beta/loss:twin,vgg13", "--out", "run")
    assert "run holds another experiment" in sentence
    assert "component beta/loss:twin" in sentence


def test_a_damaged_experiment_in_a_run_folder_is_told(refused):
    initialize_folder(Path("run"), resolve("softmax,vgg13"))
    Path("run/experiment.toml").write_text("plugins = [")
    for command in (("run", "run"), ("show", "run"), (*SOFTMAX, "--out", "run")):
        assert "experiment run/experiment.toml is not valid TOML" in refused(*command)


def test_out_beside_a_run_folder_is_refused(refused):
    initialize_folder(Path("run"), resolve("softmax,vgg13"))
    assert "run is the run folder already" in refused("run", "run", "--out", "other")


def test_a_run_that_is_not_finished_cannot_be_shown(refused):
    initialize_folder(Path("run"), resolve("softmax,vgg13"))
    assert "the run is not finished" in refused("show", "run")


def test_a_file_is_no_run_to_show(refused):
    Path("file").write_text("mine")
    assert "file is not a run folder" in refused("show", "file")


def test_missing_data_is_told_before_training(refused, tmp_path):
    sentence = refused(*SOFTMAX, "--protocol", "mnist", "--data-root", tmp_path)
    for words in (str(tmp_path / "MNIST" / "raw"), "$OPENSET_DATA", "--data-root", "--download"):
        assert words in sentence


# ---- tracebacks


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(PluginError, match="no component is called 'softmx'"):
        main(["--debug", "run", "-p", "softmx"])
    with pytest.raises(ConfigError):
        main(["--debug", *SOFTMAX, "--set", "x"])


def test_a_defect_of_the_program_is_not_hidden(monkeypatch):
    from openset_core.experiment import experiment

    def fail(*_arguments, **_options):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(experiment, "resolve", fail)
    with pytest.raises(ZeroDivisionError):
        main(list(SOFTMAX))


def in_a_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "openset_core.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_ends_with_2_and_one_sentence():
    done = in_a_process("run", "-p", "softmx")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no component is called 'softmx'")


def test_a_process_with_debug_shows_the_traceback():
    done = in_a_process("--debug", "run", "-p", "softmx")
    assert done.returncode not in (0, 2)
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "PluginError: no component is called 'softmx'" in done.stderr


# ---- what stays light

LIGHT = """
import sys
from openset_core.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert ended.code == 0, ended.code
heavy = ("torch", "torchvision", "timm", "accelerate", "sklearn", "scipy", "h5py", "numpy")
print("heavy:", [name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "Usage: openset"),
        (["plugins"], "representation losses:"),
        (["plugins", "show", "m2iosr"], "--set m2iosr.OPTION=VALUE"),
    ],
)
def test_commands_that_only_tell_load_no_heavy_library(arguments, shown):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert done.stdout.endswith("heavy: []\n")


def test_a_start_that_produced_nothing_gives_way_to_a_corrected_one(tmp_path):
    folder, _ = initialize_folder(tmp_path / "run", resolve("softmax,vgg13"))
    initialize_folder(folder.path, resolve("softmax,vgg13", seed=3))
    assert folder.read()["seed"] == 3


def test_a_run_whose_first_epoch_is_under_way_is_not_overwritten(tmp_path):
    folder, _ = initialize_folder(tmp_path / "run", resolve("softmax,vgg13"))
    recorded = folder.read()
    recorded["record"]["data"] = {}  # written down once the model is built and training begins
    folder.write(recorded)
    with pytest.raises(RunFolderError, match="different: seed"):
        initialize_folder(folder.path, resolve("softmax,vgg13", seed=3))
    assert folder.read()["seed"] == 0


def test_what_phases_refuse_leaves_the_folder_to_a_corrected_start(refused, tmp_path):
    options = ["--set", "confused-gan.auxiliary_bn=on", "--out", str(tmp_path / "run")]
    for backbone in ("timm:test_vit", "lenet-plus-plus"):  # neither has BatchNorm
        sentence = refused("run", "--quiet", "-p", f"arpl,confused-gan,{backbone}", *options)
        assert "the backbone has no BatchNorm" in sentence
