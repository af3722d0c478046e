"""Trained models at work: prediction and export."""
