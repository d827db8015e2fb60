"""Reads notes as plain text from documents, compositions and attachments, with sections and copied passages."""
