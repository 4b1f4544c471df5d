"""Weigh galaxy clusters from the positions and redshifts of their galaxies.

The package of the executable book of Ho et al. (2022), "The Dynamical Mass of the Coma
Cluster from Deep Learning". `weigh` takes a table of one cluster's galaxies and returns its
mass. Each folder is one step from a simulation box to a mass; import the module that you
need, for instance ``from cluster_tools.mocks import kde``. Conventions:
masses in Msun/h, lengths in comoving Mpc/h, velocities in physical km/s, and
``log_m200c`` = log10(M200c / (Msun/h)).
"""

from cluster_tools.errors import ClusterToolsError

__all__ = ["ClusterToolsError", "__version__", "weigh"]
__version__ = "0.1.0"


def __getattr__(name: str):
    # Not imported at once, to keep the import of the package fast.
    if name == "weigh":
        from cluster_tools.weighing.one_cluster import weigh

        return weigh
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
