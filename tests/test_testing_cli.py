"""`openset plugins check`: what it prints and how it ends."""

from __future__ import annotations

import re


def test_sound_component_ends_with_0_and_lists_every_check(openset):
    answer = openset("plugins", "check", "msp")
    assert answer.code == 0
    first, *checks, last = answer.out.splitlines()
    found = re.fullmatch(r"scorer msp of openset \S+: (\d+) checks", first)
    assert found
    assert len(checks) == int(found[1])
    assert all(line.startswith(("  passed   ", "  skipped  ")) for line in checks)
    assert re.fullmatch(r"\d+ passed, 0 failed, \d+ skipped in \d+\.\d s", last)
    assert answer.err == ""


def test_broken_contract_ends_with_1_and_says_what_was_seen(tiny, openset):
    answer = openset("plugins", "check", "backbone:tiny")
    assert answer.code == 1
    lines = answer.out.splitlines()
    where = lines.index("  failed   provides-is-true")
    assert lines[where + 1].startswith("           contract: provides says `feature maps` if ")
    assert lines[where + 2] == (
        "           seen: the backbone has batchnorm, but provides does not say so"
    )
    assert "  failed   other-images-work-or-are-refused" in lines  # 28 is no multiple of 8
    assert ", 2 failed, " in lines[-1]


def test_options_are_checked_with(tiny, openset):
    answer = openset(
        "plugins", "check", "turns", "--config", "nan_epoch=1", "--config", "nan_step=1"
    )
    assert answer.code == 1
    assert "term fit of phase first is nan" in answer.out


def test_mistakes_end_with_2(openset):
    for arguments, reason in (
        (("no-such-part",), "no component is called 'no-such-part'"),
        (("openmax", "--config", "tail=5"), "openmax has no option 'tail'"),
        (("openmax", "--config", "tail_size=1"), "openmax.tail_size"),
        (("openmax", "--config", "tail_size"), "is not of the form option=value"),
        (("digits",), "write dataset:digits or protocol:digits"),
    ):
        answer = openset("plugins", "check", *arguments)
        assert answer.code == 2, arguments
        assert answer.err.startswith("error: ")
        assert reason in answer.err
        assert "Traceback" not in answer.err


def test_family_member_is_checked_by_its_full_name(openset):
    answer = openset("plugins", "check", "timm:test_vit")
    assert answer.code == 0
    assert answer.out.startswith("backbone timm:test_vit of openset ")
    assert "  skipped  factory-is-lazy: a member of a family" in answer.out
