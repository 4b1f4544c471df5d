"""The eight models of Table 1 in Ho et al. (2022): two simulations, one or two dimensions, plain or re-weighted."""

from __future__ import annotations

from cluster_tools.cosmology import PAPER_SIMULATIONS


def model_name(simulation: str, input_dim: int | str, reweighted: bool) -> str:
    """The name of a model in files and tables, such as ``uchuu_2d_reweighted``.

    `input_dim` is 1 or 2 for images, "sets" or "counted" for networks of galaxies, 0 for the M-sigma relation. Mock
    clusters of a `reweighted` model get Coma's radial profile.
    """
    kind = input_dim if isinstance(input_dim, str) else f"{input_dim}d" if input_dim else "m_sigma"
    return f"{simulation}_{kind}" + "_reweighted" * bool(reweighted)


# Parameters of each model, in the order in which they are trained; the paper's standard model comes first.
PAPER_MODELS = tuple(
    {"simulation": simulation, "input_dim": input_dim, "reweighted": reweighted}
    for reweighted in (False, True)
    for simulation in PAPER_SIMULATIONS
    for input_dim in (2, 1)
)
