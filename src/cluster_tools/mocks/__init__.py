"""Mock observations: clusters seen along lines of sight, catalogues of them, phase-space images."""
