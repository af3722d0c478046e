"""Discovery, names and fit of parts, with plugins that exist only in this file."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import types

import attrs
import pytest
import tomli_w

from openset_core import (
    BackboneSpec,
    DatasetSpec,
    FamilySpec,
    NoOptions,
    RepresentationLossSpec,
    SampleGeneratorSpec,
    UnknownScorerSpec,
    hookimpl,
    hookspecs,
    option,
    specs,
)
from openset_core.errors import CompositionError, PluginError, did_you_mean
from openset_core.experiment.experiment import resolve
from openset_core.experiment.selection import Defaults, select
from openset_core.registry import DISABLE_VARIABLE, GROUP, HOOK_KINDS, Registry, registry


@attrs.frozen
class Distribution:
    """What an entry point knows about where it comes from."""

    name: str
    version: str = "1.0"


@attrs.frozen
class EntryPoint:
    """An entry point whose module is made on the spot; `load` may also raise."""

    name: str
    module: object
    dist: Distribution | None

    def load(self):
        if isinstance(self.module, BaseException):
            raise self.module
        return self.module


def entry(name, hooks=None, *, dist="fake-dist", version="1.0", raises=None):
    """An entry point; `hooks` maps hook names to what they return, or to a function."""
    module = types.ModuleType(f"fake_{name}")
    for hook, answer in (hooks or {}).items():

        def function(answer=answer):
            return answer() if callable(answer) else answer

        function.__signature__ = inspect.Signature()  # the default is no argument of the hook
        setattr(module, hook, hookimpl(function))
    return EntryPoint(name, raises or module, Distribution(dist, version))


def loss(name, **rest):
    return RepresentationLossSpec(name=name, summary="a loss", factory="nowhere:nothing", **rest)


def backbone(name, **rest):
    return BackboneSpec(name=name, summary="a backbone", factory="nowhere:nothing", **rest)


def scorer(name, **rest):
    return UnknownScorerSpec(name=name, summary="a scorer", factory="nowhere:nothing", **rest)


def losses(name, *specs, **rest):
    return entry(name, {"openset_representation_losses": list(specs)}, **rest)


def backbones(name, *specs, **rest):
    return entry(name, {"openset_backbones": list(specs)}, **rest)


def scorers(name, *specs, **rest):
    return entry(name, {"openset_unknown_scorers": list(specs)}, **rest)


def names(found):
    return sorted(part.name for part in found.components)


def refusal(error, call, *arguments):
    """The one-line message of the error that a call ends in."""
    with pytest.raises(error) as raised:
        call(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    return message


GOOD = losses("good", loss("good-loss"), dist="good-dist")


# ---- hooks


def declared_hooks():
    return {
        name: function
        for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(function, "openset_spec")
    }


def test_every_hook_is_handled():
    assert set(declared_hooks()) == set(HOOK_KINDS)


def test_the_four_kinds_of_part_come_first():
    assert list(declared_hooks_in_order())[:4] == [
        "openset_backbones",
        "openset_representation_losses",
        "openset_unknown_scorers",
        "openset_sample_generators",
    ]


def declared_hooks_in_order():
    hooks = declared_hooks()
    return sorted(hooks, key=lambda name: hooks[name].__code__.co_firstlineno)


@pytest.mark.parametrize("hook", sorted(HOOK_KINDS))
def test_every_hook_is_documented_and_returns_what_it_says(hook):
    function = declared_hooks()[hook]
    assert inspect.getdoc(function)
    assert not inspect.signature(function).parameters
    classes = {cls.__name__ for cls in HOOK_KINDS[hook]}
    assert set(re.findall(r"\w+Spec", function.__annotations__["return"])) == classes
    assert all(inspect.getdoc(cls) for cls in HOOK_KINDS[hook])


# ---- discovery


def test_parts_carry_distribution_and_version():
    found = Registry([losses("a", loss("one"), loss("two"), dist="a-dist", version="2.3")])
    assert found.broken == []
    assert [(p.name, p.kind, p.distribution, p.version) for p in found.components] == [
        ("one", "loss", "a-dist", "2.3"),
        ("two", "loss", "a-dist", "2.3"),
    ]
    assert found.find("one").qualified == "a-dist/loss:one"


def test_one_module_may_answer_several_hooks():
    module = {
        "openset_representation_losses": [loss("pair")],
        "openset_backbones": [backbone("net")],
        "openset_unknown_scorers": (),
    }
    found = Registry([entry("both", module)])
    assert found.broken == []
    assert names(found) == ["net", "pair"]


def test_two_entry_points_of_one_module_count_once():
    first = losses("first", loss("one"))
    second = EntryPoint("second", first.module, Distribution("other-dist"))
    assert names(Registry([first, second])) == ["one"]


def test_two_entry_points_of_one_broken_module_are_both_told():
    first = entry("first", {"openset_backbons": []})
    second = EntryPoint("second", first.module, Distribution("other-dist"))
    found = Registry([first, second, GOOD])
    assert [broken.entry_point for broken in found.broken] == ["first", "second"]
    assert names(found) == ["good-loss"]


def test_an_entry_point_without_a_distribution_is_used():
    nameless = attrs.evolve(losses("first", loss("one")), dist=None)
    assert Registry([nameless]).find("one").distribution == "unknown"


def test_no_plugin_at_all():
    found = Registry([])
    assert found.components == []
    assert "installed: none" in refusal(PluginError, found.find, "softmax")


@attrs.frozen(kw_only=True)
class Incomplete:
    """Options of which one lacks a default."""

    fine: int = option(1, "has a default")
    width: int


@attrs.frozen(kw_only=True)
class Unresolvable:
    """Options with a type that does not exist."""

    width: NoSuchType = 1  # noqa: F821


def raises_name_error():
    return [undefined_name]  # noqa: F821


BROKEN = {
    "raises at import": (
        entry("bad", raises=RuntimeError("needs a newer glibc\nand more"), dist="bad-dist"),
        "RuntimeError: needs a newer glibc",
    ),
    "is not there": (
        entry("bad", raises=ModuleNotFoundError("No module named 'gone'"), dist="bad-dist"),
        "ModuleNotFoundError: No module named 'gone'",
    ),
    "exits at import": (entry("bad", raises=SystemExit(3), dist="bad-dist"), "SystemExit: 3"),
    "misspelt hook": (
        entry("bad", {"openset_backbons": []}, dist="bad-dist"),
        "implements openset_backbons; did you mean openset_backbones",
    ),
    "hook raises": (
        entry("bad", {"openset_backbones": raises_name_error}, dist="bad-dist"),
        "NameError: name 'undefined_name' is not defined",
    ),
    "no list": (
        entry("bad", {"openset_backbones": backbone("x")}, dist="bad-dist"),
        "openset_backbones must return a list of specs, not BackboneSpec(",
    ),
    "nothing": (
        entry("bad", {"openset_backbones": None}, dist="bad-dist"),
        "openset_backbones must return a list of specs, not None",
    ),
    "no specs": (
        backbones("bad", "resnet", dist="bad-dist"),
        "openset_backbones must return BackboneSpec or FamilySpec objects, not 'resnet'",
    ),
    "spec of another kind": (
        backbones("bad", loss("x"), dist="bad-dist"),
        "must return BackboneSpec or FamilySpec objects, not RepresentationLossSpec(",
    ),
    "option without default": (
        losses("bad", loss("x", config=Incomplete), dist="bad-dist"),
        "options of x without a default: width",
    ),
    "config of no attrs class": (
        losses("bad", loss("x", config=dict), dist="bad-dist"),
        "the config of x must be an attrs class",
    ),
    "config with an unknown type": (
        losses("bad", loss("x", config=Unresolvable), dist="bad-dist"),
        "NameError: name 'NoSuchType' is not defined",
    ),
    "impossible name": (
        entry("bad", {"openset_backbones": lambda: [backbone("Big Net")]}, dist="bad-dist"),
        "ValueError: name 'Big Net' must be lower case letters",
    ),
    "other api": (
        losses("bad", loss("x", api=specs.HOOK_API + 1), dist="bad-dist"),
        f"x was written for hook API {specs.HOOK_API + 1}, this openset has {specs.HOOK_API}",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_and_harms_nobody(case):
    bad, reason = BROKEN[case]
    after = backbones("zz-after", backbone("net"), dist="after-dist")
    found = Registry([GOOD, after, attrs.evolve(bad, dist=Distribution("bad-dist", "0.4"))])
    (broken,) = found.broken
    assert (broken.entry_point, broken.distribution, broken.version) == ("bad", "bad-dist", "0.4")
    assert reason in broken.reason
    assert "\n" not in str(broken)
    assert str(broken).startswith("plugin bad of bad-dist 0.4: ")
    assert names(found) == ["good-loss", "net"]
    assert found.find("good-loss").distribution == "good-dist"


def test_nothing_of_a_broken_plugin_is_offered():
    mixed = losses("bad", loss("first"), loss("second", api=99))
    assert Registry([mixed]).components == []


@pytest.mark.parametrize(
    "name", ["bad", "bad-dist", "loss:bad", "bad-dist/loss:bad", "bad:resnet18"]
)
def test_a_broken_plugin_asked_for_gives_its_reason(name):
    bad = entry("bad", raises=RuntimeError("needs a newer glibc"), dist="bad-dist", version="0.4")
    message = refusal(PluginError, Registry([GOOD, bad]).find, name)
    assert message.startswith(f"{name} is not available: plugin bad of bad-dist 0.4")
    assert "needs a newer glibc" in message


def test_an_unknown_name_tells_what_failed_to_load():
    bad = entry("bad", raises=RuntimeError("x"), dist="bad-dist")
    message = refusal(PluginError, Registry([GOOD, bad]).find, "other")
    assert "installed: good-loss" in message
    assert "failed to load: bad of bad-dist" in message


def test_disabled_plugins_are_not_even_imported(monkeypatch):
    first = losses("first", loss("one"), dist="first-dist")
    second = losses("second", loss("two"), dist="second-dist")
    third = entry("third", raises=RuntimeError("imported"), dist="third-dist")
    monkeypatch.setenv(DISABLE_VARIABLE, "first-dist, third")
    found = Registry([first, second, third])
    assert names(found) == ["two"]
    assert found.broken == []


def test_a_factory_that_fails_names_its_plugin():
    part = Registry([losses("a", loss("one"), dist="a-dist", version="7")]).find("one")
    message = refusal(PluginError, part.load)
    assert message.startswith("loss one of a-dist 7 fails to load: ModuleNotFoundError")


@pytest.mark.parametrize("factory", ["json", "json:no_such", "json:__name__", "json:loads.x"])
def test_a_factory_that_is_not_there_names_its_plugin(factory):
    spec = attrs.evolve(loss("one"), factory=factory)
    part = Registry([losses("a", spec)]).find("one")
    assert "loss one of fake-dist 1.0 fails to load: ImportError" in refusal(PluginError, part.load)


def test_installed_plugins_load():
    found = registry()
    assert not [broken for broken in found.broken if broken.distribution == "openset"]
    assert {"m2iosr", "softmax", "vgg13", "msp", "openmax", "digits", "mnist"} <= set(names(found))


FIRST_PARTY = [
    part
    for part in registry().components
    if part.distribution == "openset"
    and hasattr(part.spec, "factory")
    and not isinstance(part.spec, FamilySpec)
]


@pytest.mark.parametrize("part", FIRST_PARTY, ids=lambda part: part.name)
def test_first_party_factories_exist(part):
    assert callable(part.load())


# ---- names


TWINS = [
    losses("alpha", loss("twin"), dist="alpha-dist", version="1.1"),
    losses("beta", loss("twin"), loss("single"), dist="beta-dist", version="2.2"),
    backbones("net", backbone("net")),
    scorers("judge", scorer("judge")),
]


def test_two_distributions_with_one_name_are_refused_naming_both():
    message = refusal(PluginError, Registry(TWINS).find, "twin")
    for part in ("alpha-dist 1.1", "beta-dist 2.2", "alpha-dist/loss:twin", "beta-dist/loss:twin"):
        assert part in message
    assert Registry(TWINS).find("single").distribution == "beta-dist"


@pytest.mark.parametrize("owner", ["alpha-dist", "beta-dist"])
@pytest.mark.parametrize("form", ["{}/loss:twin", "{}/twin"])
def test_the_qualified_name_works(owner, form):
    name = form.format(owner)
    part = Registry(TWINS).find(name)
    assert (part.distribution, part.name) == (owner, "twin")
    assert part.reference == name
    selection = select(f"{name},net,judge", Defaults(), Registry(TWINS))
    assert selection.loss.distribution == owner
    assert selection.names == [name, "net", "judge"]


def test_the_qualified_name_survives_the_experiment_file(tmp_path):
    installed = [
        e for e in importlib.metadata.entry_points(group=GROUP) if e.dist.name == "openset"
    ]
    found = Registry([*TWINS, *installed])
    digests = set()
    for owner in ("alpha-dist", "beta-dist"):
        asked = f"{owner}/loss:twin"
        first = resolve([asked, "vgg13", "msp"], "digits", trial=1, registry_=found)
        file = tmp_path / "experiment.toml"
        file.write_text(tomli_w.dumps(first.to_toml()))
        again = resolve(file=file, registry_=found)
        assert again.selection.loss.distribution == owner
        assert again.to_toml() == first.to_toml()
        assert again.digest == first.digest
        digests.add(first.digest)
    assert len(digests) == 2  # so that neither is taken for the other in a run folder


def test_a_default_may_be_a_qualified_name():
    chosen = select("net,judge", Defaults(loss="beta-dist/loss:twin"), Registry(TWINS))
    assert chosen.loss.distribution == "beta-dist"


def test_a_name_twice_in_one_distribution_is_told():
    found = Registry([losses("a", loss("one")), losses("b", loss("one", reference="other"))])
    message = refusal(PluginError, found.find, "one")
    assert "fake-dist 1.0 offers 'one' 2 times" in message


def shared_name(**rest):
    return Registry(
        [
            losses("a", loss("both", **rest)),
            scorers("b", scorer("both")),
            backbones("c", backbone("net")),
        ]
    )


def test_a_name_that_two_kinds_share_wants_its_kind():
    found = shared_name()
    message = refusal(PluginError, found.find, "both")
    assert "'both' names several components; write loss:both or scorer:both" in message
    assert found.find("loss:both").kind == "loss"
    assert found.find("scorer:both").kind == "scorer"
    assert found.find("both", ("scorer",)).kind == "scorer"
    message = refusal(PluginError, found.find, "backbone:both")
    assert message == "no backbone is called 'backbone:both'; installed: net"


def test_parts_that_share_a_name_but_not_their_options_are_refused():
    names_given = "loss:both,scorer:both,net"
    assert select(names_given, Defaults(), shared_name()).names == names_given.replace(
        ",scorer:both,net", ",net,scorer:both"
    ).split(",")

    @attrs.frozen
    class Own:
        """Options that the scorer does not have."""

        weight: float = 1.0

    message = refusal(CompositionError, select, names_given, Defaults(), shared_name(config=Own))
    assert "fake-dist/loss:both and fake-dist/scorer:both share a name" in message


def test_two_scorers_of_one_name_are_refused_together():
    found = Registry(
        [
            scorers("a", scorer("same"), dist="a-dist"),
            scorers("b", scorer("same"), dist="b-dist"),
            losses("l", loss("one")),
            backbones("n", backbone("net")),
        ]
    )
    wanted = "one,net,a-dist/same,b-dist/same"
    message = refusal(CompositionError, select, wanted, Defaults(), found)
    assert "a-dist/scorer:same and b-dist/scorer:same" in message


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("sofmax", "softmax"), ("m2osr", "m2iosr"), ("vgg", "vgg13"), ("mps", "msp")],
)
def test_typos_are_answered_with_the_nearest_name(typo, meant):
    message = refusal(PluginError, registry().find, typo)
    assert re.search(rf"did you mean (\S+ or )*{re.escape(meant)}\b", message)
    assert "installed: " in message
    assert "softmax" in message


def test_a_name_like_nothing_gets_no_suggestion():
    message = refusal(PluginError, registry().find, "qqqqqq")
    assert "did you mean" not in message
    assert "installed: " in message
    assert did_you_mean("qqqqqq", ["softmax"]) == ""


def test_only_the_wanted_kind_is_suggested():
    message = refusal(PluginError, registry().find, "softmaxx", ("backbone",))
    assert "no backbone is called 'softmaxx'" in message
    assert "softmax," not in message
    assert "vgg13" in message


# ---- families


def family(resolver, **rest):
    values = {"prefix": "zoo", "of": "backbone", "summary": "many", "resolve": resolver}
    return FamilySpec(**{**values, "names": lambda: ["resnet"], **rest})


def zoo(resolver, **rest):
    return Registry([backbones("zoo-plugin", family(resolver, **rest), dist="zoo-dist")])


def test_a_family_resolves_a_member_only_when_asked():
    calls = []

    def resolver(member):
        calls.append(member)
        return backbone(f"zoo:{member}")

    found = zoo(resolver)
    assert names(found) == ["zoo:NAME"]
    assert calls == []
    part = found.find("zoo:resnet18.a1")
    assert calls == ["resnet18.a1"]
    assert (part.kind, part.name, part.distribution) == ("backbone", "zoo:resnet18.a1", "zoo-dist")
    assert found.find("backbone:zoo:resnet18.a1").name == "zoo:resnet18.a1"
    assert found.find("zoo-dist/backbone:zoo:x").name == "zoo:x"
    assert found.find("zoo:hub/owner.net").name == "zoo:hub/owner.net"
    assert found.find("zoo-dist/zoo:hub/owner.net").name == "zoo:hub/owner.net"


def test_a_family_named_by_string_is_imported_only_when_asked():
    found = zoo("no_such_module_for_sure:resolve")
    assert found.broken == []
    message = refusal(PluginError, found.find, "zoo:resnet")
    assert message.startswith("zoo:resnet of zoo-dist 1.0 fails to load: ModuleNotFoundError")


def test_an_unknown_member_is_answered_by_the_family():
    def resolver(member):
        raise PluginError(f"zoo has no {member}; did you mean resnet?")

    message = refusal(PluginError, zoo(resolver).find, "zoo:rasnet")
    assert message == "zoo has no rasnet; did you mean resnet?"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "must be the spec of a backbone, not None"),
        (loss("x"), "must be the spec of a backbone, not RepresentationLossSpec("),
        (family(print), "must be the spec of a backbone, not FamilySpec("),
        (backbone("zoo:x", api=99), "zoo:x was written for hook API 99"),
        (backbone("zoo:x", config=Incomplete), "options of zoo:x without a default: width"),
    ],
)
def test_a_family_that_answers_nonsense_is_told(answer, reason):
    assert reason in refusal(PluginError, zoo(lambda _member: answer).find, "zoo:x")


def shop(**members):
    """Two families that share the prefix `zoo`, one of backbones and one of losses."""

    def resolver(kind, make):
        def resolve(member):
            if member not in members.get(kind, ()):
                raise PluginError(f"no {kind} is called {member}")
            return make(f"zoo:{member}")

        return resolve

    return Registry(
        [
            backbones("b", family(resolver("backbone", backbone))),
            losses("l", family(resolver("loss", loss), of="loss")),
        ]
    )


def test_families_of_two_kinds_may_share_a_prefix():
    found = shop(backbone=["net", "both"], loss=["margin", "both"])
    assert (found.find("zoo:net").kind, found.find("zoo:margin").kind) == ("backbone", "loss")
    assert refusal(PluginError, found.find, "zoo:both") == (
        "'zoo:both' names several components; write backbone:zoo:both or loss:zoo:both"
    )
    assert found.find("loss:zoo:both").kind == "loss"
    assert refusal(PluginError, found.find, "backbone:zoo:margin") == (
        "no backbone is called margin"
    )


def test_families_that_refuse_a_member_alike_speak_once():
    found = shop()
    assert refusal(PluginError, found.find, "zoo:x") == (
        "no backbone is called x; no loss is called x"
    )

    def refuse(member):
        raise PluginError(f"the zoo is closed to {member}")

    alike = Registry([backbones("b", family(refuse)), losses("l", family(refuse, of="loss"))])
    assert refusal(PluginError, alike.find, "zoo:x") == "the zoo is closed to x"


def test_a_family_is_listed_after_the_parts_of_its_kind():
    plugin = backbones("a", family(lambda m: backbone(m), prefix="aaa"), backbone("zzz"))
    assert [part.name for part in Registry([plugin]).of_kind("backbone")] == ["zzz", "aaa:NAME"]


def test_a_member_may_be_a_part_of_an_experiment():
    found = Registry(
        [
            backbones("z", family(lambda m: backbone(f"zoo:{m}"))),
            losses("l", loss("one", default_backbone="zoo:small", default_scorers=("judge",))),
            scorers("s", scorer("judge")),
        ]
    )
    assert select("one", Defaults(), found).names == ["one", "zoo:small", "judge"]
    assert select("zoo:large,one", Defaults(), found).names == ["one", "zoo:large", "judge"]


# ---- composition


def workshop():
    """Losses, backbones and scorers with needs."""
    generator = SampleGeneratorSpec(name="maker", summary="s", factory="x:y")
    return Registry(
        [
            losses(
                "l",
                loss("plain", default_scorers=("judge",)),
                loss("picky", needs=("feature maps",), default_backbone="net"),
                loss("images-only", needs=("images", "labels")),
            ),
            backbones(
                "b",
                backbone("net", provides=("feature vector", "feature maps")),
                backbone("flat"),
            ),
            scorers("s", scorer("judge"), scorer("deep", needs=("gradients", "feature maps"))),
            entry("g", {"openset_sample_generators": [generator]}),
            entry(
                "d", {"openset_datasets": [DatasetSpec(name="data", summary="d", factory="x:y")]}
            ),
        ]
    )


def test_order_does_not_matter_and_gaps_are_filled():
    plugins = workshop()
    first = select("judge, net ,plain", Defaults(), plugins)
    second = select(["plain", "net"], Defaults(scorers=("deep",)), plugins)
    assert first == second
    assert first.names == ["plain", "net", "judge"]
    assert first.generator is None
    assert select("", Defaults(loss="plain", backbone="flat"), plugins).names == [
        "plain",
        "flat",
        "judge",
    ]


def test_a_loss_prefers_its_own_backbone_to_the_protocols():
    chosen = select("picky", Defaults(backbone="flat", scorers=("judge",)), workshop())
    assert chosen.backbone.name == "net"


def test_a_part_named_twice_counts_once():
    chosen = select("plain,plain,net,loss:plain,judge,judge", Defaults(), workshop())
    assert chosen.names == ["plain", "net", "judge"]


def test_several_scorers_and_a_generator():
    chosen = select("plain,net,maker,judge", Defaults(), workshop())
    assert chosen.generator.name == "maker"
    assert chosen.names == ["plain", "net", "maker", "judge"]


def test_two_losses_are_refused_naming_both():
    message = refusal(CompositionError, select, "plain,net,picky", Defaults(), workshop())
    assert "plain and picky are 2 components of kind loss" in message


def test_two_backbones_are_refused_naming_both():
    message = refusal(CompositionError, select, "plain,net,flat", Defaults(), workshop())
    assert "net and flat are 2 components of kind backbone" in message


@pytest.mark.parametrize(
    ("given", "kind", "installed"),
    [
        ("net", "loss", "images-only, picky, plain"),
        ("plain", "backbone", "flat, net"),
        ("picky", "scorer", "deep, judge"),
    ],
)
def test_what_nothing_proposes_is_asked_for(given, kind, installed):
    message = refusal(CompositionError, select, given, Defaults(), workshop())
    assert f"no {kind} was chosen" in message
    assert f"({installed})" in message


def test_a_data_set_is_no_part():
    message = refusal(PluginError, select, "plain,net,data", Defaults(), workshop())
    assert "no component is called 'data'" in message


def test_what_a_part_lacks_is_said_in_one_sentence():
    message = refusal(CompositionError, select, "picky,flat,judge", Defaults(), workshop())
    assert message.startswith("loss picky needs feature maps, which flat does not provide")


def test_everything_a_scorer_lacks_is_named():
    message = refusal(CompositionError, select, "plain,flat,deep", Defaults(), workshop())
    assert "scorer deep needs gradients and feature maps" in message
    assert "plain and flat do not provide" in message


def test_only_partners_count_and_the_framework_brings_images():
    assert select("images-only,flat,judge", Defaults(), workshop()).loss.name == "images-only"
    selfish = Registry(
        [
            losses("l", loss("selfish", needs=("maps",), provides=("maps",))),
            backbones("b", backbone("flat")),
            scorers("s", scorer("judge")),
        ]
    )
    message = refusal(CompositionError, select, "selfish,flat,judge", Defaults(), selfish)
    assert "loss selfish needs maps" in message


# ---- specs


@pytest.mark.parametrize(
    "name", ["Upper", "with space", "", "über", "a,b", "-x", "a:", ":b", "a/b"]
)
def test_names_that_could_not_be_typed_are_refused(name):
    with pytest.raises(ValueError, match=r"^name '"):
        backbone(name)


@pytest.mark.parametrize(
    "name", ["resnet18", "max-logit", "resnet18.a1_in1k", "a+b", "zoo:Mixed/x"]
)
def test_ordinary_names_are_accepted(name):
    assert backbone(name).name == name


def test_options_want_immutable_defaults():
    with pytest.raises(TypeError, match="immutable"):
        option([1], "a list")


def test_a_part_without_options_has_none():
    assert loss("x").config is NoOptions
    assert not attrs.fields(NoOptions)
