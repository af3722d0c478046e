"""The page of one run, and its figures as PNG and SVG.

One module a topic: each turns a `View` of the run into a section of the page and into figures.
"""
