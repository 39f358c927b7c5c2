"""Classifiers of X-ray spectra: definition, training, and the weights that ship."""
