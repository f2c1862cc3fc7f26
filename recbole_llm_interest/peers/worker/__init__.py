"""The other process of a peer: a program for the environment of ``make peers``, which has RecTools and numpy < 2.

Its modules import nothing of this package, which that environment lacks.
"""
