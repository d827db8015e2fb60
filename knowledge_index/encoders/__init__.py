"""Text encoders, one to a module; `knowledge_index.encoder` finds them by name and imports only the one asked for."""
