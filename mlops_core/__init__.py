"""The shared functions that the ten notebooks, the API and the command line call."""
