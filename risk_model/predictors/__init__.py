"""Fitted predictors, each in a file format without pickle: columns in, a margin out, and its exact contributions."""
