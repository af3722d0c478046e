"""The names of `openset_core.metrics` under their former place."""

from openset_core.metrics import *  # noqa: F403
