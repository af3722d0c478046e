"""Benches: methods by protocols by trials by seeds, executed side by side and compared.

The package is called `benching` because `openset_core.bench` is the public function, which
`openset_core.api` defines.

`plan` resolves what is asked to runs, `folder` keeps them, `schedule` gives them to a launcher
(`inline`, `processes`, `ray_launcher`, `slurm_launcher`), `status` knows what each is doing,
`results` writes the tables. `runner` joins these.
"""
