"""Bayesian networks: definition and training in Keras, dropout draws in NumPy, ensembles on disk."""
