"""Every figure of the papers' tables, written down once more: protocols must say the same."""

from __future__ import annotations

import re

import pytest

from openset_core.experiment.protocol import load_protocol
from openset_core.registry import registry

CS = "arpl+confused-gan"
NO_ABN, NO_FT = f"{CS} auxiliary_bn", f"{CS} focus"


def rows(text):
    """Lines of `method|scorer|values` as (method, scorer or None, [(value, deviation or None)])."""
    for line in text.strip().splitlines():
        method, scorer, values = line.split("|")
        pairs = re.findall(r"([\d.]+)(?: ± ([\d.]+))?", values)
        yield (
            method,
            scorer or None,
            [(float(value), float(spread) if spread else None) for value, spread in pairs],
        )


def percent(pairs):
    return [
        (round(value / 100, 4), None if spread is None else round(spread / 100, 4))
        for value, spread in pairs
    ]


def expected():
    """Figures by protocol and (method, metric, scorer, unknown set)."""
    found: dict[str, dict] = {}

    def add(protocol, method, metric, scorer, figure, unknown=None):
        found.setdefault(protocol, {})[method, metric, scorer, unknown] = figure

    five_trials = ("mnist", "svhn", "cifar10", "cifar+10", "cifar+50", "tiny-imagenet")
    for metric, table in (("auroc", ARPL_1), ("oscr", ARPL_2)):
        for method, scorer, values in rows(table):
            for protocol, figure in zip(five_trials, percent(values), strict=True):
                add(protocol, method, metric, scorer, figure)
    ood = ("tnr_at_tpr95", "auroc", "dtacc", "auin", "auout")
    for method, scorer, values in rows(ARPL_3):
        columns = [(unknown, metric) for unknown in ("cifar100", "svhn") for metric in ood]
        for (unknown, metric), figure in zip(columns, percent(values), strict=True):
            add("ood-cifar10", method, metric, scorer, figure, unknown)
    for method, _scorer, values in rows(ARPL_4):
        closed = ("closed-cifar10", "closed-cifar100", "closed-air300")
        for protocol, figure in zip(closed, percent(values), strict=True):
            add(protocol, method, "accuracy", None, figure)
    for unknown, _scorer, values in rows(ARPL_5):
        methods = (("softmax", "msp"), ("arpl", "max-logit"), (CS, "max-logit"))
        columns = [(metric, *method) for metric in ("auroc", "oscr") for method in methods]
        for (metric, method, scorer), figure in zip(columns, percent(values), strict=True):
            add("domainnet", method, metric, scorer, figure, unknown)
    for method, scorer, values in rows(ARPL_6):
        for metric, figure in zip(("accuracy", "auroc", "oscr"), percent(values), strict=True):
            add("imagenet-o", method, metric, scorer, figure)
    for method, _scorer, values in rows(M2IOSR_3):
        closed = ("m2iosr-closed-mnist", "m2iosr-closed-svhn", "m2iosr-closed-cifar10")
        for protocol, figure in zip(closed, values, strict=True):
            add(protocol, method, "accuracy", None, figure)
    for method, scorer, values in rows(M2IOSR_4):
        names = ("mnist", "svhn", "cifar10", "cifar+10", "cifar+50")
        for name, figure in zip(names, values, strict=True):
            add(f"m2iosr-{name}", method, "macro_f1", scorer, figure)
    for protocol, unknowns, table in (
        (
            "m2iosr-cifar10-outliers",
            ("imagenet-crop", "imagenet-resize", "lsun-crop", "lsun-resize"),
            M2IOSR_5,
        ),
        ("m2iosr-mnist-outliers", ("omniglot", "mnist-noise", "noise"), M2IOSR_6),
    ):
        for method, scorer, values in rows(table):
            for unknown, figure in zip(unknowns, values, strict=True):
                add(protocol, method, "macro_f1", scorer, figure, unknown)
    return found


ARPL_1 = f"""
softmax|msp|97.8 ± 0.2 88.6 ± 0.6 67.7 ± 3.2 81.6 80.5 57.7
softmax|openmax|98.1 ± 0.2 89.4 ± 0.8 69.5 ± 3.2 81.7 79.6 57.6
g-openmax||98.4 ± 0.1 89.6 ± 0.6 67.5 ± 3.5 82.7 81.9 58.0
osrci||98.8 ± 0.1 91.0 ± 0.6 69.9 ± 2.9 83.8 82.7 58.6
crosr||99.1 89.9 88.3 91.2 90.5 58.9
c2ae||98.9 ± 0.2 92.2 ± 0.9 89.5 ± 0.8 95.5 ± 0.6 93.7 ± 0.4 74.8 ± 0.5
rpl|msp|98.9 ± 0.1 93.4 ± 0.5 82.7 ± 1.4 84.2 ± 1.0 83.2 ± 0.7 68.8 ± 1.4
arpl|max-logit|99.6 ± 0.1 96.3 ± 0.3 90.1 ± 0.5 96.5 ± 0.6 94.3 ± 0.4 76.2 ± 0.5
{CS}|max-logit|99.7 ± 0.1 96.7 ± 0.2 91.0 ± 0.7 97.1 ± 0.3 95.1 ± 0.2 78.2 ± 1.3
"""
ARPL_2 = f"""
softmax|msp|99.2 ± 0.1 92.8 ± 0.4 83.8 ± 1.5 90.9 ± 1.3 88.5 ± 0.7 60.8 ± 5.1
gcpl|msp|99.1 ± 0.2 93.4 ± 0.6 84.3 ± 1.7 91.0 ± 1.7 88.3 ± 1.1 59.3 ± 5.3
rpl|msp|99.4 ± 0.1 93.6 ± 0.5 85.2 ± 1.4 91.8 ± 1.2 89.6 ± 0.9 53.2 ± 4.6
arpl|max-logit|99.4 ± 0.1 94.0 ± 0.6 86.6 ± 1.4 93.5 ± 0.8 91.6 ± 0.4 62.3 ± 3.3
{CS}|max-logit|99.5 ± 0.1 94.3 ± 0.3 87.9 ± 1.5 94.7 ± 0.7 92.9 ± 0.3 65.9 ± 3.8
"""
ARPL_3 = f"""
softmax|msp|31.9 86.3 79.8 88.4 82.5 32.1 90.6 86.4 88.3 93.6
gcpl|msp|35.7 86.4 80.2 86.6 84.1 41.4 91.3 86.1 86.6 94.8
rpl|msp|32.6 87.1 80.6 88.8 83.8 41.9 92.0 87.1 89.6 95.1
arpl|max-logit|47.0 89.7 82.6 90.5 87.8 53.8 93.2 87.2 90.3 95.8
softmax+joint-confidence|msp|35.8 87.8 81.2 89.1 88.6 34.7 92.2 88.5 90.6 92.9
{NO_ABN}|max-logit|46.3 88.8 81.7 89.1 87.1 44.7 90.9 84.1 86.2 94.6
{NO_FT}|max-logit|46.7 89.7 82.4 90.7 87.8 71.0 95.6 91.1 94.0 96.8
{CS}|max-logit|48.5 90.3 83.4 91.1 88.4 79.1 96.6 91.6 94.8 98.0
"""
ARPL_4 = f"""
softmax||93.1 70.8 92.4
gcpl||93.3 70.3 92.3
rpl||93.8 71.8 92.9
arpl||94.1 72.1 94.5
{NO_ABN}||94.0 71.8 93.2
{NO_FT}||93.1 71.5 93.0
{CS}||94.0 72.8 94.7
"""
ARPL_5 = """
real-b||72.3/74.2/75.2 41.7/60.8/61.9
clipart-a||66.4/70.9/72.7 41.4/58.0/59.4
clipart-b||77.0/81.1/82.9 45.3/65.3/66.6
quickdraw-a||77.9/86.1/86.7 44.6/68.5/69.0
quickdraw-b||79.5/87.4/87.5 45.5/69.4/69.5
"""
ARPL_6 = """
softmax|msp|69.6 48.2 42.4
gcpl|msp|63.0 56.0 43.0
rpl|msp|69.8 59.4 48.6
arpl|max-logit|70.2 60.0 48.9
"""
M2IOSR_3 = """
softmax||0.995 0.940 0.906
m2iosr||0.995 0.935 0.903
"""
M2IOSR_4 = """
softmax|msp|0.768 ± 0.008 0.725 ± 0.012 0.600 ± 0.037 0.701 ± 0.012 0.637 ± 0.008
softmax|openmax|0.798 ± 0.018 0.737 ± 0.011 0.623 ± 0.038 0.731 ± 0.022 0.676 ± 0.026
crosr||0.803 ± 0.013 0.753 ± 0.019 0.668 ± 0.013 0.769 ± 0.016 0.684 ± 0.005
cgdl||0.837 ± 0.015 0.776 ± 0.010 0.655 ± 0.023 0.760 ± 0.024 0.695 ± 0.013
gdfr||0.821 ± 0.021 0.716 ± 0.010 0.700 ± 0.024 0.776 ± 0.003 0.683 ± 0.023
m2iosr|msp|0.892 ± 0.015 0.788 ± 0.012 0.733 ± 0.013 0.796 ± 0.008 0.744 ± 0.005
"""
M2IOSR_5 = """
softmax|msp|0.639 0.653 0.642 0.647
softmax|openmax|0.660 0.684 0.657 0.668
crosr||0.721 0.735 0.720 0.749
c2ae||0.837 0.826 0.783 0.801
cgdl||0.840 0.832 0.806 0.812
gdfr||0.757 0.792 0.751 0.805
m2iosr|msp|0.840 0.834 0.818 0.826
"""
M2IOSR_6 = """
softmax|msp|0.595 0.801 0.829
softmax|openmax|0.780 0.816 0.826
crosr||0.793 0.827 0.826
cgdl||0.850 0.887 0.859
m2iosr|msp|0.924 0.923 0.929
"""
EXPECTED = expected()


SAME_AS = {"mnist-short": "mnist"}
"""Shorter protocols, which show the figures of the one that they are based on."""


def test_the_tables_are_whole():
    assert sum(map(len, EXPECTED.values())) == 306


@pytest.mark.parametrize(
    "name", sorted({*EXPECTED, *(p.name for p in registry().of_kind("protocol"))})
)
def test_figures_are_those_of_the_papers(name):
    figures = load_protocol(name).content.published
    found = {
        (
            " ".join([figure.method, *figure.options.get("confused-gan", {})]),
            figure.metric,
            figure.scorer,
            figure.unknown,
        ): (figure.value, figure.deviation)
        for figure in figures
    }
    assert len(found) == len(figures)
    assert found == EXPECTED.get(SAME_AS.get(name, name), {})
