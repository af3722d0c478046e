"""What a bench is asked, and how it becomes runs."""

from __future__ import annotations

import attrs
import pytest
import tomli_w

from openset_core.benching.folder import BenchFolder, check_folder, initialize
from openset_core.benching.plan import BenchFile, BenchMethod, make_plan, read_bench_file
from openset_core.benching.results import check_reference
from openset_core.errors import ConfigError, PluginError, ProtocolError, RunFolderError
from openset_core.run_folder import initialize_folder

pytestmark = pytest.mark.usefixtures("tiny")


def wishes(*methods, **changes):
    made = tuple(m if isinstance(m, BenchMethod) else BenchMethod(plugins=m) for m in methods)
    return BenchFile(**{"methods": made, "protocols": ("tiny-digits",)} | changes)


def plan(*methods, **changes):
    return make_plan(wishes(*methods, **changes))


def names(found):
    return [run.name for run in found.runs]


# --- runs -----------------------------------------------------------------------------------------


def test_all_methods_of_a_trial_come_before_the_next_trial():
    found = plan("softmax,tiny", "turns,tiny", seeds=2)
    assert [run.title for run in found.runs] == [
        f"{method},tiny on tiny-digits, trial {trial}, seed {seed}"
        for seed in (0, 1)
        for trial in (0, 1)
        for method in ("softmax", "turns")
    ]
    # The folders are those that `openset run` makes.
    assert found.runs[0].name == "tiny-digits-softmax-tiny-trial0-seed0"


def test_several_protocols_have_their_own_trials():
    found = plan("softmax,tiny", protocols=("tiny-digits", "digits"))
    places = [(run.experiment.protocol.name, run.experiment.trial) for run in found.runs]
    assert places == [*(("tiny-digits", n) for n in range(2)), *(("digits", n) for n in range(5))]


@pytest.mark.parametrize(("seeds", "numbers"), [(3, (0, 1, 2)), ((0, 5), (0, 5)), ((7,), (7,))])
def test_seeds_by_number_or_one_by_one(seeds, numbers):
    assert wishes("softmax", seeds=seeds).seed_numbers == numbers
    assert {run.experiment.seed for run in plan("softmax", seeds=seeds).runs} == set(numbers)


def test_scorers_of_the_same_network_share_a_run():
    (first, second) = plan("softmax,tiny,msp", "softmax,tiny,energy,msp").runs
    assert [part.name for part in first.experiment.selection.scorers] == ["msp", "energy"]
    assert (first.method, second.experiment.trial) == ("softmax,tiny", 1)
    scorers = {part.name for part in first.experiment.selection.scorers}
    assert scorers <= first.experiment.options.keys()


def test_a_scorer_with_other_options_gets_a_run_of_its_own():
    other = BenchMethod(plugins="softmax,tiny,knn", name="near", set={"knn": {"k": 3}})
    found = plan("softmax,tiny,knn", other, trials=(0,))
    first, second = found.runs
    assert second.name.startswith("tiny-digits-softmax-tiny-trial0-seed0-")
    assert [run.experiment.options["knn"].k == 3 for run in found.runs] == [False, True]
    assert [run.shown for run in found.runs] == ["", "near"]
    assert first.experiment.digest == second.experiment.digest


def test_variants_of_a_method_are_methods():
    other = BenchMethod(plugins="softmax,tiny", set={"training": {"lr": 0.5}})
    found = plan("softmax,tiny", other, trials=(0,))
    assert [run.experiment.training.lr for run in found.runs] == [0.05, 0.5]
    assert [run.method for run in found.runs] == ["softmax,tiny", "softmax,tiny training.lr=0.5"]
    assert len(set(names(found))) == 2


def test_recipes_for_every_method_and_for_one():
    found = plan(
        "softmax,tiny",
        BenchMethod(plugins="softmax,tiny,energy", recipe=""),
        recipe="strong",
        trials=(0,),
    )
    strong, plain = (run.experiment for run in found.runs)
    assert (strong.training.epochs, plain.training.epochs) == (600, 2)
    assert [part.name for part in strong.selection.scorers] == ["max-logit"]
    assert plain.recipe is None
    assert found.file.asked()["recipe"] == "strong"
    one = plan(BenchMethod(plugins="softmax,tiny", recipe="strong"), "softmax,tiny", trials=(0,))
    assert [run.experiment.training.epochs for run in one.runs] == [600, 2]
    assert one.runs[0].method == "softmax,tiny recipe strong"
    assert "recipe" not in one.file.asked()


def test_common_options_reach_the_methods_that_have_the_part():
    common = {"training": {"epochs": 7}, "turns": {"nan_step": 9}, "energy": {"temperature": 2.0}}
    own = BenchMethod(plugins="turns,tiny", set={"turns": {"nan_step": 4}})
    found = plan("softmax,tiny,energy", "turns,tiny", own, trials=(0,), set=common)
    softmax, turns, other = (run.experiment for run in found.runs)
    assert {run.experiment.training.epochs for run in found.runs} == {7}
    assert softmax.options["energy"].temperature == 2.0
    assert (turns.options["turns"].nan_step, other.options["turns"].nan_step) == (9, 4)


def test_the_same_wishes_get_the_same_folder():
    first, second = plan("softmax,tiny", seeds=2), plan("softmax,tiny", seeds=(0, 1))
    assert first.default_folder() == second.default_folder()
    assert first.default_folder().name.startswith("bench-tiny-digits-")
    other = plan("softmax,tiny", seeds=3)
    assert other.default_folder() != first.default_folder()


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: plan(), ConfigError, "needs at least one method: --plugins"),
        (
            lambda: plan("softmax,tiny", "turns,tiny", "softmx,tiny"),
            PluginError,
            r"^method 'softmx,tiny': no component is called 'softmx'; did you mean softmax",
        ),
        (
            lambda: plan("softmax,tiny", trials=(0, 2)),
            ProtocolError,
            "tiny-digits has trials 0 to 1, there is no trial 2",
        ),
        (lambda: plan("softmax,tiny", protocols=()), ConfigError, "at least one protocol"),
        (
            lambda: plan("softmax,tiny", protocols=("tiny-digit",)),
            ProtocolError,
            "no protocol is called 'tiny-digit'; did you mean tiny-digits",
        ),
        (
            lambda: plan("softmax,tiny", "tiny, softmax"),
            ConfigError,
            "methods 'softmax,tiny' and 'tiny,softmax' are the same; leave one out",
        ),
        (
            lambda: plan("softmax,tiny", set={"turns": {}}),
            ConfigError,
            r"options for 'turns' are given, which no method of this bench has; there are "
            "msp, softmax, tiny, training",
        ),
        (
            lambda: plan(BenchMethod(plugins="softmax,tiny", set={"turns": {}})),
            ConfigError,
            "method 'softmax,tiny': options for 'turns' are given",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_anywhere_is_found_before_anything_runs(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_the_reference_must_be_a_method():
    check_reference(plan("softmax,tiny", "turns,tiny", reference="turns,tiny max-logit"))
    with pytest.raises(ConfigError, match="no method is called 'turn,tiny'; did you mean"):
        check_reference(plan("softmax,tiny", "turns,tiny", reference="turn,tiny"))


# --- bench.toml -----------------------------------------------------------------------------------


def test_bench_toml(tmp_path):
    file = tmp_path / "bench.toml"
    file.write_text(
        'protocols = ["tiny-digits"]\ntrials = [1]\nseeds = 2\nreference = "slow"\n'
        "[set.training]\nepochs = 4\n"
        '[[methods]]\nplugins = "softmax,tiny"\n'
        '[[methods]]\nname = "slow"\nplugins = "softmax,tiny"\n[methods.set.training]\nlr = 0.01\n'
    )
    found = make_plan(read_bench_file(file))
    assert [(r.shown, r.experiment.training.lr, r.experiment.seed) for r in found.runs] == [
        ("", 0.05, 0), ("slow", 0.01, 0), ("", 0.05, 1), ("slow", 0.01, 1)
    ]  # fmt: skip
    folder = BenchFolder(tmp_path / "bench")
    initialize(folder, found)
    again = make_plan(folder.read())
    assert names(again) == names(found)
    assert again.file.asked() == found.file.asked()
    assert again.file.reference == "slow"
    assert again.file.record["versions"].keys() >= {"openset", "torch"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trails = []", r"bench.toml has no option 'trails'; did you mean trials"),
        ('trials = "some"', r'bench.toml.trials: trials must be "all" or a list of numbers'),
        ("trials = []", "trials names none"),
        ("trials = [0, 0]", "trials names one twice: 0, 0"),
        ("seeds = 0", "seeds must be at least 1, or a list of seeds, not 0"),
        ("seeds = [-1]", "seeds must be 0 or more, not -1"),
        ('seeds = "many"', "bench.toml.seeds expects int or list of int, not 'many'"),
        ("[[methods]]\nname = 1", r"methods\[0\].name expects text, not 1"),
        ("[[methods]]\n", r"methods\[0\] lacks plugins"),
        ("methods = 3", "methods expects list of"),
    ],
)
def test_mistakes_in_bench_toml(tmp_path, text, said):
    file = tmp_path / "bench.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_bench_file(file)
    assert "\n" not in str(caught.value)


# --- the folder -----------------------------------------------------------------------------------


def test_a_folder_with_something_else_is_refused(tmp_path):
    made = plan("softmax,tiny")
    folder = BenchFolder(tmp_path / "there")
    folder.path.write_text("")
    with pytest.raises(RunFolderError, match="is a file, not a folder"):
        check_folder(folder, made)
    folder = BenchFolder(tmp_path / "other")
    initialize(folder, plan("turns,tiny", seeds=2))
    with pytest.raises(
        RunFolderError, match=r"holds another bench \(different: methods, seeds\); choose another"
    ):
        check_folder(folder, made)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    with pytest.raises(RunFolderError, match="is not empty and no bench"):
        check_folder(BenchFolder(tmp_path / "foreign"), made)
    with pytest.raises(RunFolderError, match=r"is not a bench: it has no bench\.toml"):
        BenchFolder(tmp_path / "foreign").read()


def test_a_run_folder_of_another_experiment_is_refused(tmp_path):
    made = plan("softmax,tiny")
    folder = BenchFolder(tmp_path)
    other = plan("softmax,tiny", set={"training": {"epochs": 9}}).runs[0].experiment
    initialize_folder(folder.run(made.runs[0]), other)
    (folder.run(made.runs[0]) / "metrics.jsonl").write_text("")
    (folder.run(made.runs[0]) / "results.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"different: training\.epochs"):
        initialize(folder, made)
    assert (folder.run(made.runs[0]) / "results.json").exists()


def test_two_benches_cannot_work_in_one_folder(tmp_path):
    folder = BenchFolder(tmp_path / "bench")
    busy = pytest.raises(RunFolderError, match="another `openset bench` is at work")
    with folder.locked(), busy, folder.locked():
        pass
    with folder.locked():
        pass


def test_a_method_added_to_bench_toml_joins_the_bench(tmp_path):
    folder = BenchFolder(tmp_path)
    initialize(folder, plan("softmax,tiny"))
    asked = folder.read()
    longer = attrs.evolve(asked, methods=(*asked.methods, BenchMethod(plugins="turns,tiny")))
    folder.file.write_text(tomli_w.dumps({**longer.asked(), "record": asked.record}))
    made = make_plan(folder.read())
    check_folder(folder, made)
    assert [run.method for run in initialize(folder, made)] == ["softmax,tiny", "turns,tiny"] * 2
    assert len(folder.read().record["runs"]) == 4
