"""Experiment 5: the final fit, its calibration, its export with proof, its scores, its card."""
