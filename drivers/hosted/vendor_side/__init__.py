"""What runs in the Python of a vendor: this folder is on its path, and nothing else of the program."""
