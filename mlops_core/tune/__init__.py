"""Experiment 6: a study over model families that can be killed and goes on."""
