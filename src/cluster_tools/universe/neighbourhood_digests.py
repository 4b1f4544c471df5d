"""Digests of the libraries of neighbourhoods, written by `make neighbourhoods`."""

DIGESTS = {"mdpl2": "2353d6b3525ba52d", "uchuu": "948c8ea2520086d6"}
