"""Choosing the operating point from pairs of fast and analysis images."""
