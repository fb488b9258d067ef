"""JWT-secured predictions from the registered champion, over HTTP."""
