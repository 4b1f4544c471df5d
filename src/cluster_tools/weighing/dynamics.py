"""The dynamical state of a cluster: whether velocities are Gaussian, and whether there is substructure on the sky.

A small p says that the cluster may not be relaxed. Interlopers and a mixture of radii make velocities less Gaussian,
too; the more galaxies there are, the more often p is small. Masses of mock clusters with a small p were right in the
median up to 100 galaxies; above, they were up to 0.1 dex too high.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import log_ndtr

FEWEST_MEMBERS = 20
GRADES = (0.05, 0.01)  # least probabilities of the first and second grades of `WORDS`
WORDS: dict = {  # in the package and on the page that weighs
    "few": "not tested: {n} galaxies are members more likely than not, {least} different ones are needed",
    "gaussian": "velocities of {n} likely members {grade} with a Gaussian (Anderson-Darling, p = {p})",
    "gaussian grades": ("agree", "hardly agree", "disagree"),
    "substructure": "; {grade} on the sky (Dressler-Shectman, p = {p})",
    "substructure grades": ("no substructure", "perhaps substructure", "substructure"),
}
LARGEST_A2 = 100.0  # above 153, the formula for the probability would rise again
NEIGHBOURS = 10  # of each galaxy, in the test for substructure
SHUFFLES = (100, 500)  # fewest, for very many galaxies, and most
MOST_SHUFFLED = 4_000_000  # velocities read in all shuffles together
TOGETHER = 500_000  # and at a time
MULTIPLIER, MODULUS = 48271, 2**31 - 1  # of the minimal standard generator (Park et al. 1993, CACM 36, 7, 108)


def anderson_darling(v_los) -> float:
    """Probability that n Gaussian velocities deviate more from their fitted Gaussian than `v_los` (n,) do from theirs.

    Anderson-Darling statistic with the correction for n and the probabilities of D'Agostino & Stephens (1986,
    Goodness-of-Fit Techniques, table 4.9); as accurate as that from 0.001 to 0.9.
    """
    x = np.sort((v_los - np.mean(v_los)) / np.std(v_los, ddof=1))
    n, i = len(x), np.arange(1, len(x) + 1)
    a2 = -n - np.mean((2 * i - 1) * (log_ndtr(x) + log_ndtr(-x[::-1])))
    a2 = min(a2 * (1 + 0.75 / n + 2.25 / n**2), LARGEST_A2)
    if a2 >= 0.6:
        return float(np.exp(1.2937 - 5.709 * a2 + 0.0186 * a2**2))
    if a2 > 0.34:
        return float(np.exp(0.9177 - 4.279 * a2 - 1.38 * a2**2))
    if a2 > 0.2:
        return float(1 - np.exp(-8.318 + 42.796 * a2 - 59.938 * a2**2))
    return float(1 - np.exp(-13.436 + 101.14 * a2 - 223.73 * a2**2))


def dressler_shectman(position, v_los, *, seed: int = 0) -> float:
    """Probability that galaxies (n,) without substructure have as much of it as these, by shuffled velocities.

    Delta is the sum over galaxies of delta, with delta^2 = (k / sigma^2) ((v_k - v)^2 + (sigma_k - sigma)^2) of the
    mean and dispersion of each galaxy and its 10 nearest neighbours on the sky, k = 11 (Dressler & Shectman 1988,
    AJ 95, 985). `position` are places on the sky (n, 2) in any unit, or directions (n, 3), `v_los` velocities (n,)
    [km/s]. Of 500 shuffles with `seed`, or fewer with over 700 galaxies, it is the share with as large a Delta, the
    galaxies themselves counted.
    """
    near, v = cKDTree(position).query(position, k=NEIGHBOURS + 1)[1].T, np.asarray(v_los, float) - np.mean(v_los)
    sigma = np.std(v, ddof=1)

    def delta(v) -> np.ndarray:
        k, of_neighbours, squares = len(near), np.zeros(v.shape), np.zeros(v.shape)
        for each in near:
            of_neighbours += (of_one := v[each])
            squares += of_one**2
        variance = np.maximum((squares - of_neighbours**2 / k) / (k - 1), 0)
        return np.sqrt((of_neighbours / k) ** 2 + (np.sqrt(variance) - sigma) ** 2).sum(axis=0)

    shuffles, together = int(np.clip(MOST_SHUFFLED // near.size, *SHUFFLES)), max(TOGETHER // near.size, 1)
    larger, measured = 0, delta(v) * (1 - 1e-12)
    for first in range(0, shuffles, together):
        count = min(together, shuffles - first)
        order = np.argsort(_random(count * len(v), seed, first * len(v)).reshape(count, -1), axis=1).T
        larger += int((delta(v[order]) >= measured).sum())
    return (1 + larger) / (1 + shuffles)


def _random(count: int, seed: int, skipped: int = 0) -> np.ndarray:
    """Whole numbers (count,) of the minimal standard generator, no two alike, which JavaScript repeats exactly."""
    first = (1 + seed % (MODULUS - 1)) * pow(MULTIPLIER, skipped + 1, MODULUS) % MODULUS
    numbers, factor = np.array([first]), MULTIPLIER
    while len(numbers) < count:
        numbers, factor = np.r_[numbers, numbers * factor % MODULUS], factor**2 % MODULUS
    return numbers[:count].astype(np.int32)


def state(v_los, position, p_member) -> dict:
    """Dynamical state of a cluster from its galaxies (n,), of which those with `p_member` above one half are taken.

    It has ``p_gaussian`` (`anderson_darling`), ``p_substructure`` (`dressler_shectman`), and ``dynamics``, a sentence.
    The probabilities are NaN with fewer than 20 members, or velocities that are all alike; so is the second without
    `position`.
    """
    member = np.asarray(p_member) > 0.5
    n, v = int(member.sum()), np.asarray(v_los, float)[member]
    if n < FEWEST_MEMBERS or np.ptp(v) == 0:
        words = WORDS["few"].format(n=n, least=FEWEST_MEMBERS)
        return {"p_gaussian": np.nan, "p_substructure": np.nan, "dynamics": words}
    gaussian, substructure = anderson_darling(v), np.nan
    words = _graded("gaussian", gaussian, n)
    if position is not None:
        substructure = dressler_shectman(np.asarray(position)[member], v)
        words += _graded("substructure", substructure, n)
    return {"p_gaussian": gaussian, "p_substructure": substructure, "dynamics": words}


def _graded(test: str, p: float, n: int) -> str:
    grade = WORDS[f"{test} grades"][sum(p <= least for least in GRADES)]
    return WORDS[test].format(n=n, grade=grade, p=f"{p:.2g}")
