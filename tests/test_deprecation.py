"""Warnings about what is to go."""

from __future__ import annotations

import warnings

import pytest

from openset_core import deprecation
from openset_core.deprecation import DeprecatedError, deprecated, forbidden


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(deprecation, "_said", set())


def old_name():
    deprecated("old_name", instead="new_name", removed_in="0.3")


def test_warning_says_what_replaces_it_and_when_it_goes():
    message = "^old_name is deprecated and will be removed in openset 0.3; use new_name$"
    with pytest.warns(DeprecationWarning, match=message) as caught:
        old_name()
    assert caught[0].filename == __file__  # the caller's line, not the helper's


def test_each_is_said_once_a_process():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            old_name()
        deprecated("another", instead="new_name", removed_in="0.3")
    assert [str(item.message).split()[0] for item in caught] == ["old_name", "another"]


def test_where_it_is_forbidden_each_use_raises():
    for _ in range(2):
        with forbidden(), pytest.raises(DeprecatedError, match="old_name is deprecated"):
            old_name()
    with pytest.warns(DeprecationWarning, match="old_name"):
        old_name()
