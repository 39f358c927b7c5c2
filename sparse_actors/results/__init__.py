"""A run for notebooks and exports: tiles, regions, sites, maps and spectra, read when they are asked for."""
