"""Real servers for tests. Each starts once a session, in its own process group, on free ports."""
