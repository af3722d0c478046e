"""Fitting and applying unknown scorers."""
