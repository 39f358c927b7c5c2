"""The daemon: a queue of runs, each made in a process of its own."""
