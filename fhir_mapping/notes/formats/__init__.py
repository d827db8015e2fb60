"""Converts plain text, HTML, RTF, CDA and PDF to clean text with headings, all but plain text in a sandboxed child."""
