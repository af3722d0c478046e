"""Exact open-set metrics."""
