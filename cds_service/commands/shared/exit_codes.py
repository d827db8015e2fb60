"""Exit codes of the `riskcards` command. click itself uses 2 for a usage error."""

DONE, INTERNAL_ERROR, BAD_INPUT, ABSTAINED = 0, 1, 3, 4
