"""Attacks on request, `make attack`: kills, flipped bytes, damaged tables, large batches, two runs at once.

Each attack is a function of a count, an empty directory and a seed. It returns counts of outcomes; ``wrong`` must be 0.
`make test` runs a tenth of each: `test_*.py` beside them.
"""
