"""From a fast image to points of interest."""
