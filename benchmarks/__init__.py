"""How fast it is, each figure beside its floor from the same run. `python -m benchmarks` runs them all."""
