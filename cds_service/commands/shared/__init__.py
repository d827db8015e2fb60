"""Shared by several commands: input files, settings and store, model sources, exit codes."""
