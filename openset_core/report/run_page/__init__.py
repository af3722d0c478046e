"""The page of a run: report.html, and its charts as files in figures/."""
