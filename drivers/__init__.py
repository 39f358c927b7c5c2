"""Microscope drivers; only `plugins.load` fetches them."""
