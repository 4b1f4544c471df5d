"""The Coma cluster: its galaxies, published masses and their conversion, how robust its mass is."""
