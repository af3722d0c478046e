"""Pages and figures of runs.

`data` reads a run folder into plain arrays; `colours` is the palette; `style` makes matplotlib
figures for papers; `page` is the shell of a self-contained HTML page, `svg` and `axes` its charts.
Nothing here needs torch.
"""
