"""Language models that read notes: prompt, answer, backends, and the reader that turns answers into NoteFindings.

Nothing a model says is believed: quotes must be the note's own words, names must be in the vocabulary, numbers must
stand in the quote, cited passages among those given. Importing this package imports no torch.
"""
