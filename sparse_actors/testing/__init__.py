"""Tools for tests, ours and third parties'."""
