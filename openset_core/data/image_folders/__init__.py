"""A person's own images as a data set and a protocol, so that they train like any other.

`found` looks for classes in a folder, `watched` reads the files once and notes how they look,
`copies` tells which show the same picture, `division` splits them, `protocol` writes down how they
are judged, `start` does all that for a run folder; `in_memory` serves arrays.
"""
