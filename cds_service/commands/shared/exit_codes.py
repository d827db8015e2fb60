"""Exit codes of the `riskcards` command. click itself uses 2 for a usage error."""

DONE, OUR_FAULT, BAD_INPUT = 0, 1, 3
