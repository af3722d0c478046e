"""A person's own images as a data set and a protocol, so that they train like any other.

`scan` looks for classes in a folder, `duplicates` reads the files once and tells which show the
same picture, `splitting` splits them, `protocol` writes down how they are evaluated, `setup` does
all that for a run folder; `in_memory` serves arrays.
"""
