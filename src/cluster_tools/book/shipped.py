"""The networks in the package, the predictions stored with them, and how a new training replaces them.

``data/uchuu_2d`` holds the Uchuu 2D model of the chapter on training. Beside it lie ``predictions.h5``, posteriors of
Coma and a few synthetic test clusters, to check the networks with, and ``reference_statistics.h5``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np

from cluster_tools import hdf5, paths, store
from cluster_tools.book import artefacts, model_artefacts
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.coma import survey
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import priors
from cluster_tools.mocks import kde
from cluster_tools.networks import ensembles
from cluster_tools.weighing import reference_statistics

MODEL = {"simulation": "uchuu", "input_dim": 2, "reweighted": False}
MAX_BYTES = 5_000_000
PREDICTIONS = "predictions.h5"
FORMAT = "cluster_tools shipped predictions 1"
CLUSTERS = 6  # synthetic test clusters
DRAWS, SEED = 20, 1
LEVELS = (0.05, 0.16, 0.5, 0.84, 0.95)


def reference() -> SimpleNamespace:
    """Clusters, Coma first, and the posteriors stored with the networks; `ClusterToolsError` if the file is damaged.

    Galaxies of cluster i are ``offsets[i]:offsets[i + 1]`` of ``v_los`` [km/s] and ``r_proj`` [comoving Mpc/h]; float64
    arrays ``mean`` (n,), ``sigma`` (n,) and ``quantiles`` at `LEVELS` (n, 5) are in log10 M200c [Msun/h] and dex.
    """
    names = ("offsets", "v_los", "r_proj", "mean", "sigma", "quantiles")
    with hdf5.opened(paths.PACKAGE_DATA / ensembles.SHIPPED / PREDICTIONS, FORMAT, "install the package again") as file:
        return SimpleNamespace(**{name: file[name][()] for name in names})


def deviation(ensemble: ensembles.CNNEnsemble, stored: SimpleNamespace) -> float:
    """Largest difference [dex] between stored and new mean, sigma or quantile of any cluster.

    Sums in another order, on other processors or with other libraries, change them by some 1e-5.
    """
    posteriors = _posteriors(ensemble, stored.offsets, stored.v_los, stored.r_proj)
    return max(float(np.abs(values - getattr(stored, name)).max()) for name, values in posteriors.items())


def ship(profile: str, *, progress=None) -> Path:
    """Make a profile's Uchuu 2D networks those of the package; they are trained first if they are not there.

    So the package and the book give Coma one mass by these networks. `progress` is called with a line of text at
    each step. Returns the directory of the networks, which replaces the old one as a whole. Raises `ClusterToolsError`
    if the profile's catalogue is missing, damaged or of other parameters, or the networks exceed 5 MB.
    """
    parameters = profile_parameters(profile)["training"]
    for unused in model_artefacts.PREDICTION_PARAMETERS:
        del parameters[unused]
    ensemble = model_artefacts.ensemble(profile, **MODEL, progress=progress, **parameters)
    catalog = artefacts.load_catalog(profile, MODEL["simulation"])
    target = paths.PACKAGE_DATA / ensembles.SHIPPED
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / "new"
        ensemble.save(new)
        _write_predictions(new / PREDICTIONS, ensemble, catalog)
        statistics = reference_statistics.measure(ensemble, catalog, seed=parameters["seed"], progress=progress)
        statistics.write(new / reference_statistics.FILE, ensemble.provenance["key"])
        size = sum(file.stat().st_size for file in new.iterdir())
        if size > MAX_BYTES:
            sizes = f"{size / 1e6:.1f} MB, but {MAX_BYTES / 1e6:g} MB are the most"
            raise ClusterToolsError(f"the networks have {sizes}; ship a profile of fewer folds.")
        if target.exists():
            target.rename(Path(scratch) / "old")
        new.rename(target)
    return target


def _write_predictions(path: Path, ensemble, catalog) -> None:
    coma = survey.load_sample("desi")
    rows = np.flatnonzero(catalog.in_test)
    by_mass = rows[np.argsort(catalog.log_m200c[rows], kind="stable")]
    mocks = catalog.select(by_mass[np.linspace(0, len(rows) - 1, CLUSTERS).astype(int)])
    offsets = np.concatenate([[0], len(coma) + mocks.offsets])
    v_los, r_proj = (np.concatenate([coma[name].value, getattr(mocks, name)]) for name in ("v_los", "r_proj"))
    columns = {"offsets": offsets, "v_los": v_los, "r_proj": r_proj}
    columns |= _posteriors(ensemble, offsets, v_los, r_proj)
    settings = {"draws": DRAWS, "seed": SEED, "levels": LEVELS, "networks": ensemble.provenance["key"]}
    hdf5.write(path, FORMAT, store.stamp(settings, folder="weighing"), columns)


def _posteriors(ensemble, offsets, v_los, r_proj) -> dict[str, np.ndarray]:
    images = kde.phase_space_images(v_los, r_proj, offsets, input_dim=MODEL["input_dim"])
    posterior = ensemble.posterior(images, draws=DRAWS, seed=SEED)
    quantiles = priors.quantiles(posterior.samples, LEVELS)
    return {"mean": posterior.mean, "sigma": posterior.sigma, "quantiles": quantiles}
