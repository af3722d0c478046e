"""Benches: methods by protocols by trials by seeds, executed side by side and compared.

`openset_core.bench` is the public function of `openset_core.api`, hence this package's name.
"""
