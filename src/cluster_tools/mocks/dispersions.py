"""Dispersions of the velocities of a cluster's galaxies, for the M-sigma relation.

Ho et al. 2022 compare with this relation. In the paper's large cylinder the raw dispersion hardly depends on mass,
because of interlopers, and the paper does not say how it removed them. So there are three selections.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster_tools import ragged
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT

FEWEST_FOR_SIGMA = 5  # for a dispersion

# Name: largest r_proj [Mpc/h], largest abs(v_los) [km/s], and the standard deviations beyond which to clip.
SELECTIONS = {
    "raw": (APERTURE, VELOCITY_CUT, np.inf),
    "clipped": (APERTURE, VELOCITY_CUT, 3.0),
    "medium": (1.6, 2200.0, 3.0),
}


def velocity_dispersions(v_los, r_proj, offsets, selection: str = "clipped") -> np.ndarray:
    """Standard deviation of v_los of each cluster's galaxies: float64 (n,) [km/s], NaN for fewer than 5 galaxies.

    Galaxies are as in `kde.phase_space_images`. `selection` is "raw" (all galaxies), "clipped" (those beyond 3 sigma
    removed until none is), or "medium" (within 1.6 Mpc/h and 2200 km/s, then clipped; Ho et al. 2019). Raises
    `ClusterToolsError` for another `selection`, NaN or infinite values, and lengths that do not match.
    """
    if selection not in SELECTIONS:
        raise ClusterToolsError(f"selection is {selection!r}, but one of {', '.join(SELECTIONS)} is expected.")
    galaxies = ragged.from_arrays(v_los, r_proj, offsets)
    return _dispersions(galaxies.v_los, galaxies.r_proj, galaxies.offsets, *SELECTIONS[selection])


@njit(cache=True)
def _dispersions(v_los, r_proj, offsets, aperture, velocity_cut, clip):
    sigma = np.full(len(offsets) - 1, np.nan)
    for i in range(len(sigma)):
        v = v_los[offsets[i] : offsets[i + 1]]
        v = v[(r_proj[offsets[i] : offsets[i + 1]] <= aperture) & (np.abs(v) < velocity_cut)]
        while len(v) >= FEWEST_FOR_SIGMA:
            spread = v.std() * np.sqrt(len(v) / (len(v) - 1.0))
            kept = v[np.abs(v - v.mean()) <= clip * spread]
            if len(kept) == len(v):
                sigma[i] = spread
                break
            v = kept
    return sigma
