"""How a new version of the API takes over: behind a proxy, gate by gate, and back again when it does not pass."""
