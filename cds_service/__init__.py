"""The only package with Flask, the network, the environment, the clock and the database."""
