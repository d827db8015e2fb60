"""Scripts that derive data files of the packages from published sources; run by hand for a new release of these."""
