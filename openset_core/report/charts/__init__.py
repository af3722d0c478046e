"""Charts, one module a topic: data in, one Altair chart out.

The same chart is embedded in a page, written as PNG, SVG or PDF, and returned in Python.
"""
