"""Experiment 7: the verified bundle and its predictor, on numpy and onnxruntime alone."""
