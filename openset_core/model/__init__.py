"""Building models, and the saved artefact."""
