"""Whether the rows of the files are in their tables."""
