"""Predictions with Gaussian posteriors whose width and bias a test sets."""

import numpy as np
from scipy.stats import norm

from cluster_tools.inference.validation import Predictions


def gaussian(n=3000, *, factor=1.0, shift=0.0, seed=0, simulation="uchuu"):
    """Posteriors of n rows, 3 for each cluster: sigma is `factor` times too large, the mean `shift` dex too high."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.uniform(14, 15, n // 3), 3)
    sigma = rng.uniform(0.08, 0.2, n)
    mean = truth + sigma * rng.normal(size=n) + shift
    samples = mean[:, None] + factor * sigma[:, None] * norm.ppf((np.arange(100) + 0.5) / 100)
    columns = (np.arange(n), np.arange(n) // 3, truth, mean, factor * sigma, samples.astype(np.float32))
    return Predictions(np.full(n, simulation), *columns, {})


def both_simulations():
    """Posteriors of 1500 rows of Uchuu and 900 of MDPL2."""
    parts = (vars(gaussian(1500, seed=1)), vars(gaussian(900, seed=2, simulation="mdpl2")))
    names = [name for name in parts[0] if name != "provenance"]
    return Predictions(*(np.concatenate([part[name] for part in parts]) for name in names), {})
