"""Regions, merging, what to scan next, time and dose."""
