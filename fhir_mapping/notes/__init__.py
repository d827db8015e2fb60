"""Notes as plain text: documents, compositions, attachments, sections, and text copied between notes."""
