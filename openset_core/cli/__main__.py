"""`python -m openset_core.cli` is the `openset` command."""

from openset_core.cli import main

main()
