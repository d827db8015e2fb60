"""Note formats: bytes of a declared type to clean text and the headings the format itself marks.

`plain` is read where it stands. HTML, RTF, CDA and PDF need parsers of foreign formats and are read only in the bounded
child process: `process` is the parent's side, `child` the other, and nothing else imports the parsers.
"""
