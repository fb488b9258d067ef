"""One module per source of several tables: how they become the one table that is learned from."""
