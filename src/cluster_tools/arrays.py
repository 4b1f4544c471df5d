"""Checks of parameters and arrays from outside; each refusal is a `ClusterToolsError` that names one of them."""

from __future__ import annotations

from numbers import Real

import numpy as np

from cluster_tools.errors import ClusterToolsError


def is_number(value) -> bool:
    """Whether a value is one real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(name: str, value, low: float, high: float = np.inf, *, whole: bool = False) -> None:
    """Refuse a `value` that is no number (`whole`: no whole number) from `low` to `high`; messages call it `name`."""
    kinds = int | np.integer if whole else int | float | np.integer | np.floating
    if not isinstance(value, kinds) or not is_number(value) or not low <= value <= high:
        expected = f"{'whole ' * whole}number from {low:.7g} " + (f"to {high:.7g}" if high < np.inf else "on")
        raise ClusterToolsError(f"{name} is {value!r}, but a {expected} is expected.")


def numbers(name: str, values) -> np.ndarray:
    """Real numbers of any shape as a float64 array, masked ones as NaN; messages call them `name`."""
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex numbers were found")
        return np.ma.filled(np.ma.asanyarray(values, dtype=np.float64), np.nan)
    except (TypeError, ValueError, OverflowError) as error:
        raise ClusterToolsError(f"{name} must hold numbers ({' '.join(str(error).split())[:120]}).") from None


def column(name: str, values, length: int | None = None) -> np.ndarray:
    """Finite numbers as a contiguous float64 array (n,); n must be `length`, that of v_los, where it is given."""
    values = numbers(name, values)
    if values.ndim != 1 or (length is not None and len(values) != length):
        expected = "one value per galaxy" if length is None else f"{length} values, as many as v_los"
        raise ClusterToolsError(f"{name} has shape {values.shape}, but {expected} is expected.")
    if bad := int((~np.isfinite(values)).sum()):
        raise ClusterToolsError(f"{name} holds {bad} values that are NaN or infinite; leave those galaxies out.")
    return np.ascontiguousarray(values)


def offsets(values, n_galaxies: int) -> np.ndarray:
    """Offsets of n clusters, whole numbers that rise from 0 to `n_galaxies`, as an int64 array (n + 1,)."""
    try:
        values = np.asarray(values)
    except ValueError:
        raise ClusterToolsError("offsets must be one row of whole numbers; ragged rows were found.") from None
    good = values.ndim == 1 and len(values) > 0 and np.issubdtype(values.dtype, np.integer)
    if not good or values[0] != 0 or values[-1] != n_galaxies or (values[1:] < values[:-1]).any():
        raise ClusterToolsError(
            f"offsets must be whole numbers that rise from 0 to the number of galaxies, {n_galaxies}; "
            f"shape {values.shape} of type {values.dtype} was found."
        )
    return np.ascontiguousarray(values, dtype=np.int64)
