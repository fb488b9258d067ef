"""`mlops init`: any table becomes a dataset file that a person can read, check and change."""
