"""How pytest compares notebooks (nbval) and which markers the tests use."""

import math
import os
import re

import pytest

from cluster_tools import figure_data
from cluster_tools.chapters import ENVIRONMENT
from cluster_tools.cli import cores

# A number that stands alone; a name such as h5py or 2D has none.
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w])")
RELATIVE_TOLERANCE = 1e-4
# What may differ from run to run although nothing did: addresses of objects, runs of blanks
# in tables (whose columns are as wide as their numbers are long).
VOLATILE = ((re.compile(r"0x[0-9a-f]{6,}"), "0x"), (re.compile(r"[ \t]+|-{3,}"), " "))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process more than there are cores: many tests wait for a browser, a kernel or a command."""
    return cores() + 1


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    os.environ.update(ENVIRONMENT)
    for name in ("CLUSTER_TOOLS_COMA_SAMPLE", "MPLBACKEND"):  # what is compared depends on neither
        os.environ.pop(name, None)


def same_printed(one: str, other: str) -> bool:
    """Whether two outputs say the same: equal text, equal integers, decimals equal as printed.

    Decimals may differ by 1e-4 of their size or by one in their last printed digit, since
    libraries add up in another order on another processor.
    """
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    return all(same_number(a, b) for a, b in zip(NUMBER.findall(one), NUMBER.findall(other)))


def same_number(one: str, other: str) -> bool:
    """Compare two printed numbers; see `same_printed`."""
    if re.fullmatch(r"[-+]?\d+", one) and re.fullmatch(r"[-+]?\d+", other):
        return int(one) == int(other)
    unit = max(last_digit(one), last_digit(other))
    return math.isclose(float(one), float(other), rel_tol=RELATIVE_TOLERANCE, abs_tol=1.01 * unit)


def last_digit(number: str) -> float:
    """The unit of the last printed digit: 0.01 for ``1.23``, 1e13 for ``1.2e14``."""
    mantissa, _, exponent = number.lower().partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


class Printed(str):
    """An output that equals another one if `same_printed` says so."""

    def __eq__(self, other):
        return same_printed(self, other)

    def __ne__(self, other):
        return not same_printed(self, other)

    __hash__ = str.__hash__


# With more than one process (xdist), what takes minutes must not begin last.
LONGEST = ("test_site.py", "test_reliability.py", "test_weigh.py", "test_galaxy_table.py")


def pytest_collection_modifyitems(items):
    """Put the longest files first; have nbval compare as above, and ignore figures and stderr, whose paths differ."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if type(item).__name__ == "IPyNbCell":
            item.parent.skip_compare = tuple({*item.parent.skip_compare, "stderr", figure_data.MIME})
            item.sanitize = sanitize


def sanitize(output):
    """An output made comparable; anything but text stays as it is."""
    if not isinstance(output, str):
        return output
    for pattern, replacement in VOLATILE:
        output = pattern.sub(replacement, output)
    return Printed(output)
