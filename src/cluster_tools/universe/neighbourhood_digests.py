"""Digests of the libraries of neighbourhoods, written by `make neighbourhoods`."""

DIGESTS = {"mdpl2": "04c9324476629520", "uchuu": "db102b90f3df5bda"}
