"""The page of a comparison or a bench, and its figures as PNG and SVG.

One module a topic: each turns a `View` of the comparison into a section of the page, and some into
figures. `forest` draws values with intervals line by line, `critical` lays out diagrams of critical
differences, `cells` writes the tables that text and LaTeX have too.
"""
