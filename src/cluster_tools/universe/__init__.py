"""Synthetic boxes and readers of real simulations: haloes, galaxies, stellar masses."""
