"""Commands that serve: demo, serve, read-ahead, clients, modes, doctor."""
