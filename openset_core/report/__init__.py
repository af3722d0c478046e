"""Pages and figures of runs.

`data` reads a run folder into plain arrays; `charts` draws them, each chart once, with Altair;
`render` fills the page templates in `templates/`. `run_page`, `comparison_page` and `figures` say
what stands on the page of a run, of a comparison, and in figures of papers. Nothing here needs
torch.
"""
