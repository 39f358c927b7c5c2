"""SLADS: where the next spectrum tells most about the phase map, and the map from the spectra so far."""
