"""What several commands share: files, settings and store, model sources, exit codes."""
