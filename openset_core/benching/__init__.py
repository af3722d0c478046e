"""Methods by protocols by trials by seeds: runs carried out side by side, compared in the end.

`plan` resolves what is asked to runs, `folder` keeps them, `schedule` gives them to a launcher
(`inline`, `processes`, `ray_launcher`), `board` knows what each is doing, `results` ends with
tables. `running` joins these.
"""

from __future__ import annotations

from openset_core.benching.runner import Bench, bench

__all__ = ["Bench", "bench"]
