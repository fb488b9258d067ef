"""Notebooks as stages: executed, watched, verified, summed up."""
