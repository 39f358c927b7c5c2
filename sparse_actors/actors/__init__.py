"""One actor a file, decisions only."""
