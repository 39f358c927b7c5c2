"""Pages of one file that show a finished run, or a sweep, to people."""
