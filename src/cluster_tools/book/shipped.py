"""The networks that come with the package, and what they said of some clusters when they were put there.

``data/uchuu_2d`` is the Uchuu 2D model as chapter 04 trains and writes it, and beside it
``predictions.h5``: Coma's galaxies, those of a few synthetic test clusters, and the posteriors of
all. Whoever loads the networks can so tell whether they still say the same. The third file,
``yardsticks.h5``, tells how usual a cluster is, see `yardsticks`. `ship` writes all;
`ensembles.CNNEnsemble.shipped` loads the networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cluster_tools import hdf5, paths, store
from cluster_tools.book import artefacts
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.coma import survey
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import priors
from cluster_tools.mocks import catalogs, kde
from cluster_tools.networks import ensembles
from cluster_tools.weighing import reference_statistics

MODEL = {"simulation": "uchuu", "input_dim": 2, "reweighted": False}
MOST_BYTES = 5_000_000
PREDICTIONS = "predictions.h5"
FORMAT = "cluster_tools shipped predictions 1"
CLUSTERS = 6  # synthetic ones
DRAWS, SEED = 20, 1  # of the predictions
LEVELS = (0.05, 0.16, 0.5, 0.84, 0.95)
COLUMNS = ("offsets", "v_los", "r_proj", "mean", "sigma", "quantiles")


@dataclass(frozen=True)
class Reference:
    """Clusters, Coma first, and the posteriors that were stored with the networks.

    Attributes
    ----------
    offsets : int64 array (n + 1,), galaxies of cluster i are ``offsets[i]:offsets[i + 1]``
    v_los, r_proj : float64 arrays (n_galaxies,), in km/s and comoving Mpc/h
    mean, sigma : float64 arrays (n,), of log10 M200c [Msun/h]
    quantiles : float64 array (n, 5), at `LEVELS`
    """

    offsets: np.ndarray
    v_los: np.ndarray
    r_proj: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    quantiles: np.ndarray


def reference() -> Reference:
    """The clusters and posteriors stored with the networks; `ClusterToolsError` if the file is damaged."""
    with hdf5.opened(paths.PACKAGE_DATA / ensembles.SHIPPED / PREDICTIONS, FORMAT, "install the package again") as file:
        return Reference(*(file[name][()] for name in COLUMNS))


def deviation(ensemble: ensembles.CNNEnsemble, stored: Reference) -> float:
    """Largest difference [dex] of mean, sigma or a quantile, for any cluster, between now and when it was stored.

    Processors and versions of libraries add up in different orders, so some 1e-5 is nothing.
    """
    now = _posteriors(ensemble, stored.offsets, stored.v_los, stored.r_proj)
    return max(float(np.abs(now[name] - getattr(stored, name)).max()) for name in now)


def ship(profile: str, *, folds: int = catalogs.FOLDS, progress=None) -> Path:
    """Make Uchuu 2D networks of a profile, one for each fold, those of the package; return where they lie.

    They are trained with the profile's parameters, unless they were before: the profile itself may
    leave out fewer folds. The new directory takes the place of the old one whole.

    Raises
    ------
    ClusterToolsError
        If the profile's catalogue is missing, damaged or of other parameters, or the networks are larger than 5 MB.
    """
    parameters = profile_parameters(profile)["training"] | {"folds": folds, "networks_per_fold": 1}
    parameters = {name: value for name, value in parameters.items() if name not in ("draws", "max_test")}
    ensemble = artefacts.ensemble(profile, **MODEL, progress=progress, **parameters)
    catalog = artefacts.load_catalog(profile, MODEL["simulation"])
    target = paths.PACKAGE_DATA / ensembles.SHIPPED
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / "new"
        ensemble.save(new)
        _write_predictions(new / PREDICTIONS, ensemble, catalog)
        measured = reference_statistics.make(ensemble, catalog, seed=parameters["seed"], progress=progress)
        measured.write(new / reference_statistics.FILE, ensemble.provenance["key"])
        _check_size(new)
        if target.exists():
            target.rename(Path(scratch) / "old")
        new.rename(target)
    return target


def _check_size(new: Path) -> None:
    size = sum(file.stat().st_size for file in new.iterdir())
    if size > MOST_BYTES:
        raise ClusterToolsError(
            f"The networks and their predictions have {size / 1e6:.1f} MB, but {MOST_BYTES / 1e6:g} MB are the most "
            "that the package carries; ship fewer folds."
        )


def _write_predictions(path: Path, ensemble, catalog) -> None:
    sample = survey.load_sample("desi")
    rows = np.flatnonzero(catalog.in_test)
    by_mass = rows[np.argsort(catalog.log_m200c[rows], kind="stable")]
    some = catalog.select(by_mass[np.linspace(0, len(rows) - 1, CLUSTERS).astype(int)])
    offsets = np.concatenate([[0], len(sample) + some.offsets])
    v_los, r_proj = (np.concatenate([sample[name].value, getattr(some, name)]) for name in ("v_los", "r_proj"))
    columns = {"offsets": offsets, "v_los": v_los, "r_proj": r_proj}
    columns |= _posteriors(ensemble, offsets, v_los, r_proj)
    settings = {"draws": DRAWS, "seed": SEED, "levels": LEVELS, "networks": ensemble.provenance["key"]}
    with hdf5.create(path, FORMAT, store.stamp(settings, folder="weighing")) as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column, **hdf5.CHECKED)


def _posteriors(ensemble, offsets, v_los, r_proj) -> dict[str, np.ndarray]:
    images = kde.phase_space_images(v_los, r_proj, offsets, input_dim=MODEL["input_dim"])
    found = ensemble.posterior(images, draws=DRAWS, seed=SEED)
    quantiles = priors.quantiles(found.samples, LEVELS)
    return {"mean": found.mean, "sigma": found.sigma, "quantiles": quantiles}
