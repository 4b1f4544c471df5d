"""Every number of the paper beside the same number from this package: reproduced or not.

The ledger ``results/published.yml`` has the numbers as printed; `ENTRIES` says for each how it
is computed here and on which page, or why it cannot be. `judge` alone decides what counts as
reproduced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import cosmology
from cluster_tools.book import artefacts
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.coma import literature, survey
from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.inference import validation
from cluster_tools.mocks import catalogs, kde, observe
from cluster_tools.networks.models import PAPER_MODELS, model_name

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

REPRODUCED, CONSISTENT, DIFFERS, NOT_TESTABLE = "reproduced", "consistent", "differs", "not testable here"
STATUSES = {  # what each means, with a mark and a background that stay apart without colour vision
    REPRODUCED: (
        "agrees to the last printed digit, its errors included, or where the paper says about, to its last digit "
        "that is not 0 and within 15 %; a limit holds", "✓", "#b9dcf2"),
    CONSISTENT: ("within two of the errors that the paper prints with it", "≈", "#f3e9b5"),
    DIFFERS: ("anything else", "≠", "#f2b48c"),
    NOT_TESTABLE: ("for the reason given beside it", "–", "#dddddd"),
}  # fmt: skip
SIGMAS = 2.0  # of the printed errors: what is still consistent
ABOUT = 0.15  # of a number that the paper gives as about right, at most


def judge(printed: Mapping, ours) -> tuple[str, float]:
    """Status of a number of ours beside the printed one, and their difference in units of the printed error.

    Parameters
    ----------
    printed : an entry of ``literature.published(as_printed=True)``: text under ``value`` (or a list),
        and if the paper has them ``minus``, ``plus``, ``about`` (final zeros are rounding) and ``bound``;
        ``tolerance``, a fraction of the value, is allowed instead of half the last digit
    ours : a number; a list where the ledger has one; or a tuple (value, minus, plus) to be compared
        with the printed errors as well

    The difference is NaN where no error is printed. A NaN of ours differs.
    """
    values = printed["value"] if isinstance(printed["value"], list) else [printed["value"]]
    texts = values + ([printed["minus"], printed["plus"]] if isinstance(ours, tuple) else [])
    found = np.atleast_1d(np.asarray(ours, float))
    if len(texts) != len(found):
        raise ValueError(f"{len(found)} numbers for the {len(texts)} printed: {texts}")
    expected = np.array([float(text) for text in texts])
    slack = np.array([_slack(text, printed) for text in texts]) * (1 + 1e-6)  # the factor: for binary fractions
    gap = found - expected
    within = {"most": gap <= slack, "least": gap >= -slack}.get(printed.get("bound"), np.abs(gap) <= slack)
    difference = np.nan
    if "minus" in printed:
        difference = float(gap[0] / float(printed["plus" if gap[0] > 0 else "minus"]))
    if np.all(within):
        return REPRODUCED, difference
    return (CONSISTENT if abs(difference) <= SIGMAS else DIFFERS), difference


def _slack(text: str, printed: Mapping) -> float:
    """How far from a printed number still agrees: half a unit of its last digit, unless the entry says otherwise."""
    number = Decimal(text)
    if "tolerance" in printed:
        return float(printed["tolerance"]) * abs(float(number))
    if "about" in printed and number:  # the last digit that is not 0, but of 10000 not 5000
        return min(10.0 ** number.normalize().as_tuple().exponent / 2, ABOUT * abs(float(number)))
    return 10.0 ** number.as_tuple().exponent / 2


@dataclass(frozen=True)
class Run:
    """What a run of the book has made, read when it is asked for.

    Each attribute raises `ClusterToolsError`, with the command that mends it, if its file is
    missing or was made with other parameters.
    """

    profile: str

    @cached_property
    def table1(self) -> pd.DataFrame:
        """The models of Table 1, indexed by (simulation, input_dim, reweighted); ``lo`` and ``hi`` are percentiles."""
        table = artefacts.load_table(self.profile, "table1.csv", "08_coma_mass").query("input_dim > 0")
        return table.set_index(["simulation", "input_dim", "reweighted"])

    @cached_property
    def catalogs(self) -> dict:
        return {name: artefacts.load_catalog(self.profile, name) for name in SIMULATIONS}

    @cached_property
    def draws(self) -> int:
        return profile_parameters(self.profile)["coma_mass"]["draws"]

    @cached_property
    def n_training(self) -> dict[str, int]:
        """Training observations of each simulation when one fold is left out."""
        share = 1 - 1 / catalogs.FOLDS
        return {name: round(catalog.in_train.sum() * share) for name, catalog in self.catalogs.items()}

    @cached_property
    def m_sigma_half_width(self) -> dict[str, float]:
        """Half the 16-84 range of the residuals of M-sigma [dex], in the cylinder of Ho et al. (2019).

        In the paper's larger cylinder the dispersion hardly depends on mass, even when clipped, and
        any network would win by far.
        """
        table = artefacts.load_table(self.profile, "table1.csv", "08_coma_mass").query("input_dim == 0")
        return dict(zip(table["simulation"], (table["val_hi"] - table["val_lo"]) / 2, strict=True))

    def gain(self, input_dim: int) -> float:
        """How much smaller [%] the models' half-widths are than that of M-sigma, on average."""
        rows = self.table1.xs(input_dim, level="input_dim")
        half_width = (rows["val_hi"] - rows["val_lo"]) / 2
        m_sigma = rows.index.get_level_values("simulation").map(self.m_sigma_half_width)
        return float(100 * (1 - half_width / m_sigma).mean())

    @property
    def ranges_without_zero(self) -> int:
        """How many 16-84 % ranges of residuals in Table 1, on own and other simulation, do not hold zero."""
        sides = [self.table1[[f"{test}_lo", f"{test}_hi"]].to_numpy() for test in ("val", "xval")]
        low, high = np.concatenate(sides).T
        return int(np.sum((low > 0) | (high < 0)))

    @cached_property
    def upweighted_radius(self) -> float:
        """Radius [Mpc/h] out to which re-weighting to Coma's profile raises the weight of a galaxy."""
        catalog = self.catalogs["uchuu"]
        test = catalog.select(catalog.in_test & (catalog.line_of_sight == 0))
        weights = kde.radial_weights(test.r_proj, test.offsets, survey.load_sample()["r_proj"].value)
        bins = np.minimum((test.r_proj / kde.APERTURE * kde.PIXELS).astype(int), kde.PIXELS - 1)
        mean = np.bincount(bins, weights, kde.PIXELS) / np.maximum(np.bincount(bins, minlength=kde.PIXELS), 1)
        return float(kde.r_proj_grid()[np.flatnonzero(mean > 1)[-1]])


@dataclass(frozen=True)
class Entry:
    """How one number of the paper is computed here, or why it is not.

    Attributes
    ----------
    compute : function of a `Run` to what `judge` takes; None if it cannot be
    page : ``<page>#<anchor>`` under chapters/, where a reader sees it computed or used
    remark : why it cannot be computed, or where a difference comes from
    """

    compute: Callable | None = None
    page: str = ""
    remark: str = ""


def _paper_mass() -> tuple[float, float, float]:
    entry = literature.published()["values"]["coma_log_m200c"]
    return entry["value"], entry["minus"], entry["plus"]


def _estimate(key: str, variant: str = "") -> literature.Estimate:
    return next(e for e in literature.estimates() if (e.key, e.variant) == (key, variant))


def _tension(*keys: str) -> float:
    """Between two works, or of one with the paper's mass [sigma]."""
    masses = [_estimate(key).in_dex for key in keys]
    return literature.tension(*masses, *([_paper_mass()] if len(masses) == 1 else []))


def _largest_tension_of_others() -> float:
    others = [e for e in literature.estimates() if not e.later and e.key not in ("gavazzi2009", "kubo2007")]
    return max(literature.tension(e.in_dex, _paper_mass()) for e in others)


ERRORS = ("minus", "plus")


def _quoted(key: str, name: str = "value", variant: str = "", errors: tuple[str, ...] = ()) -> Entry:
    """A number of another work, quoted by the paper: the one that our conversion starts from."""

    def compute(run):
        given = literature.as_published(key, variant)
        return tuple(given[each] for each in (name, *errors)) if errors else given[name]

    return Entry(compute, CONVERSIONS, "Quoted from the work cited; our conversion starts from it.")


def _setting(value: Callable, page: str, remark: str = "") -> Entry:
    return Entry(lambda run: value(), page, remark)


def _untested(remark: str) -> Entry:
    return Entry(remark=remark)


def _box(name: str, page: str) -> Entry:
    return Entry(lambda run: run.catalogs[name].provenance["box_size"], page, "Set by the profile of the run.")


def _particle_mass(name: str) -> float:
    """Mean matter density of a simulation's cosmology over its number of particles [Msun/h]."""
    side = literature.published()["values"][f"{name}_particles"]["value"]
    simulation = SIMULATIONS[name]
    return simulation.omega_m * float(cosmology.critical_density()) * simulation.box_size**3 / side**3


def _planck_release(name: str) -> int:
    """Year of the Planck cosmology, as colossus has them, that is closest to a simulation's."""
    from colossus.cosmology.cosmology import cosmologies

    sim = SIMULATIONS[name]
    ours = {"H0": 100 * sim.hubble, "Om0": sim.omega_m, "Ob0": sim.omega_b, "sigma8": sim.sigma8, "ns": sim.n_s}

    def distance(year):
        planck = cosmologies[f"planck{year - 2000}"]
        return sum(abs(planck[parameter] / value - 1) for parameter, value in ours.items())

    return min((2013, 2015, 2018), key=distance)


def _critical_density_factors() -> list[float]:
    """The 3 and the 8 of rho_c = 3 H^2 / (8 pi G), from our rho_c and astropy's constants."""
    rho_c, hubble, g = _density_hubble_g()
    return [8 * np.pi * g * rho_c / hubble**2, 3 * hubble**2 / (np.pi * g * rho_c)]


def _hubble_unit() -> float:
    """H0 [h km/s/Mpc] that belongs to our critical density."""
    rho_c, _, g = _density_hubble_g()
    return float(np.sqrt(8 * np.pi * g * rho_c / 3))


def _density_hubble_g() -> tuple[float, float, float]:
    from astropy import constants, units

    g = constants.G.to_value(units.Mpc / units.Msun * (units.km / units.s) ** 2)
    return float(cosmology.critical_density()), 100.0, g


def _r200c() -> tuple[float, float, float]:
    value, minus, plus = _paper_mass()
    low, middle, high = cosmology.r200c(np.array([value - minus, value, value + plus]), cosmology.COMA_REDSHIFT)
    return float(middle), float(middle - low), float(high - middle)


def _error_of_the_white() -> float:
    """The error that our conversion starts from [% of the mass]."""
    given = literature.as_published("the1986", "strict")
    return 100 * given["plus"] / given["value"]


def _lokas_radius() -> float:
    """Radius [Mpc/h70] of Łokas & Mamon's mass at their overdensity."""
    given = literature.as_published("lokas2003")
    density = given["delta"] * float(cosmology.critical_density())
    return (3 * given["value"] * 0.7 / (4 * np.pi * density)) ** (1 / 3) / 0.7


def _image_shapes() -> list[int]:
    """Columns along R_proj of the images of the Coma sample in 1D and 2D."""
    sample = survey.load_sample("desi")
    galaxies = sample["v_los"].value, sample["r_proj"].value, np.array([0, len(sample)])
    images = [kde.phase_space_images(*galaxies, input_dim=input_dim) for input_dim in (1, 2)]
    return [image[0].size // kde.PIXELS for image in images]


def _network_shapes() -> list[tuple[int, ...]]:
    """Shapes of the kernels and biases of the paper's 2D network."""
    from cluster_tools.networks import cnn

    return cnn.Architecture(2).shapes()


def _best(run: Run) -> tuple[float, float, float]:
    row = run.table1.loc[("uchuu", 2, False)]
    return float(row["coma_mean"]), float(row["coma_sigma"]), float(row["coma_sigma"])


MOCKS = "01_mock_catalogues_uchuu"
BOX, FLAT = f"{MOCKS}#fig-mass-function", f"{MOCKS}#fig-flat-natural"
CUTS = f"{MOCKS}#a-box-and-what-a-survey-sees-of-it"
MDPL2_BOX = "01_mock_catalogues_mdpl2#a-box-and-what-a-survey-sees-of-it"
IMAGES = "03_preprocessing#one-cluster-two-images"
NETWORK = "04_training_uchuu_2d#fig-1"
RESIDUALS = "05_validation#residuals-table-1-left-to-right"
M_SIGMA = "05_validation#the-m-sigma-relation"
CONVERSIONS = "07_historical_masses#all-of-them-beside-the-paper"
RADIUS = "07_historical_masses#the-radius-that-belongs-to-the-mass"
TENSIONS = "07_historical_masses#how-far-from-the-paper-s-mass"
COMA = "08_coma_mass#eight-posteriors"
COMA_GALAXIES = "08_coma_mass#the-galaxies"
COMA_TABLE = "08_coma_mass#table-1"
COSMOLOGY = "07_historical_masses#one-conversion-by-hand"

SIMULATED = "A property of the N-body simulation itself, which is not run here."
FACING = "The paper does not say how it measures tension; here in dex, over the errors that face each other."

ENTRIES: dict[str, Entry] = {
    # Abstract and introduction
    "zwicky_year": _untested("A date in the history of astronomy."),
    "dark_matter_of_matter": _setting(
        lambda: 100 * (1 - SIMULATIONS["uchuu"].omega_b / SIMULATIONS["uchuu"].omega_m), BOX,
        "A round number; here that of the cosmology of Uchuu."),
    "dark_matter_of_mass_energy": _setting(
        lambda: 100 * (SIMULATIONS["uchuu"].omega_m - SIMULATIONS["uchuu"].omega_b), BOX,
        "A round number; here that of the cosmology of Uchuu."),
    "cluster_galaxies": _untested(
        "How many there are depends on how faint one counts; every survey of Coma used here stops far above the "
        "faintest."),
    "coma_log_m200c": Entry(_best, COMA),
    "coma_r200c": _setting(_r200c, RADIUS, "From the paper's mass."),
    "coma_cosmology": _setting(lambda: _planck_release("uchuu"), BOX),
    "years_of_coma_studies": _setting(
        lambda: literature.published()["paper"]["date"].year - literature.published()["values"]["zwicky_year"]["value"],
        CONVERSIONS, "From Zwicky to the paper."),
    "scatter_reduction": _untested("A result of Ho et al. (2019) on a catalogue of theirs."),
    "training_examples": Entry(lambda run: min(run.n_training.values()), FLAT),
    # Inputs and networks
    "input_dims": _setting(lambda: sorted({model["input_dim"] for model in PAPER_MODELS}), COMA_TABLE),
    "image_bins": _setting(lambda: kde.PIXELS, IMAGES),
    "image_columns": _setting(_image_shapes, IMAGES),
    "draws": Entry(lambda run: run.draws, COMA, "Set by the profile of the run."),
    "dropout_range": _untested("The range of any fraction."),
    "network_outputs": _setting(lambda: _network_shapes()[-1][0], NETWORK),
    "parameters_in_general": _untested("Said of deep networks at large."),
    "weights_to_integrate": _setting(
        lambda: sum(math.prod(shape) for shape in _network_shapes()), NETWORK,
        "Parameters of the 2D network of the authors' public code; the 1D one has fewer."),
    # Mock observations
    "min_log_mstar": _setting(lambda: survey.MIN_LOG_MSTAR, COMA_GALAXIES),
    "velocity_cut": _setting(lambda: observe.VELOCITY_CUT, CUTS),
    "aperture": _setting(lambda: observe.APERTURE, CUTS),
    "training_clusters_uchuu": Entry(lambda run: run.n_training["uchuu"], FLAT, "Set by the profile of the run."),
    "training_clusters_mdpl2": Entry(
        lambda run: run.n_training["mdpl2"], "01_mock_catalogues_mdpl2#flat-to-train-natural-to-test",
        "Set by the profile of the run."),
    "simulations": _setting(lambda: len(SIMULATIONS), RESIDUALS),
    "uchuu_data_release": _untested("The name of a data release."),
    "sdss_data_release": _setting(
        lambda: survey.SDSS_RELEASE, COMA_GALAXIES, "The release that we ask where SDSS is used."),
    "mdpl2_redshift": _setting(lambda: SIMULATIONS["mdpl2"].redshift, MDPL2_BOX),
    "mdpl2_cosmology": _setting(lambda: _planck_release("mdpl2"), MDPL2_BOX),
    "mdpl2_particles": _untested(SIMULATED),
    "mdpl2_particle_mass": _setting(
        lambda: _particle_mass("mdpl2"), MDPL2_BOX, "Matter in the box over the paper's number of particles."),
    "mdpl2_box": _box("mdpl2", MDPL2_BOX),
    "uchuu_redshift": _setting(lambda: SIMULATIONS["uchuu"].redshift, CUTS),
    "uchuu_cosmology": _setting(lambda: _planck_release("uchuu"), CUTS),
    "uchuu_particles": _untested(SIMULATED),
    "uchuu_particle_mass": _setting(
        lambda: _particle_mass("uchuu"), CUTS, "Matter in the box over the paper's number of particles."),
    "uchuu_box": _box("uchuu", CUTS),
    "min_m200c": _setting(lambda: 10**catalogs.TEST_LOG_M200C, FLAT, "Of the test set."),
    "log_number_density": _setting(
        lambda: float(np.log10(catalogs.ROWS_PER_DEX / 1000**3)), FLAT, "Rows per dex over 1 (Gpc/h)^3."),
    "kde_bandwidth": _setting(lambda: kde.BANDWIDTH, IMAGES),
    "upweighted_radius": Entry(
        lambda run: run.upweighted_radius, "03_preprocessing#fig-reweighting",
        "Depends on the survey of Coma: DESI here, SDSS in the paper."),
    # Results
    "models": _setting(lambda: len(PAPER_MODELS), COMA_TABLE),
    "interval": _setting(lambda: [validation.PERCENTILES[0], validation.PERCENTILES[-1]], RESIDUALS),
    "coma_interval": _setting(
        lambda: _sigmas(validation.PERCENTILES[-1]), COMA, "The sigma at which a Gaussian has the percentile 84."),
    "ranges_without_zero": Entry(
        lambda run: run.ranges_without_zero, RESIDUALS,
        "A median is taken as consistent with zero if the 16-84 % range of its residuals holds zero."),
    "gain_1d": Entry(lambda run: run.gain(1), M_SIGMA, "Beside M-sigma in the small cylinder of Ho et al. (2019)."),
    "gain_2d": Entry(lambda run: run.gain(2), M_SIGMA, "Beside M-sigma in the small cylinder of Ho et al. (2019)."),
    "tension_gavazzi": _setting(
        lambda: _tension("gavazzi2009"), TENSIONS,
        f"{FACING} The paper's follows only if their lower error is taken on either side and made linear, 0.18 dex; in "
        "the logarithm that error is 0.23 dex, and the tension 1.99."),
    "tension_kubo": _setting(lambda: _tension("kubo2007"), TENSIONS, FACING),
    "tension_others": _setting(_largest_tension_of_others, TENSIONS, FACING),
    "residual_definition": _untested("A definition, which is taken over here: there is nothing to compare."),
    # Historical masses: conventions and quoted inputs
    "overdensity": _setting(
        lambda: 3e15 / (4 * np.pi * cosmology.r200c(15.0) ** 3) / cosmology.critical_density(), COSMOLOGY,
        "Mean density inside our R200c."),
    "critical_density_factors": _setting(_critical_density_factors, COSMOLOGY, "From our critical density."),
    "hubble_unit": _setting(_hubble_unit, COSMOLOGY, "From our critical density."),
    "hubble_unit_h50": _setting(lambda: literature.as_published("the1986", "strict")["hubble"], COSMOLOGY),
    "h": _setting(lambda: cosmology.HUBBLE, COMA_GALAXIES),
    "omega_m": _setting(lambda: cosmology.OMEGA_M, COSMOLOGY),
    "omega_lambda": _setting(lambda: 1 - cosmology.OMEGA_M, COSMOLOGY),
    "c200c": _setting(lambda: literature.FIDUCIAL_C200C, "07_historical_masses#fig-historical-sensitivity"),
    "the1986_mass": _quoted("the1986", variant="strict"),
    "the1986_uncertainty": _setting(
        lambda: 2 * _error_of_the_white(), CONVERSIONS, "The full width of the error below, as we read it."),
    "the1986_error": _setting(_error_of_the_white, CONVERSIONS, "Taken as one sigma."),
    "the1986_radius": _quoted("the1986", "radius", "strict"),
    "the1986_range": _quoted("the1986", "range", "relaxed"),
    "hughes1989_mass": _quoted("hughes1989", variant="strict", errors=ERRORS),
    "hughes1989_radius": _quoted("hughes1989", "radius", "strict"),
    "hughes1989_range": _quoted("hughes1989", "range", "relaxed"),
    "geller1999_scale_radius": _quoted("geller1999", "scale_radius", errors=("scale_radius_error",) * 2),
    "geller1999_mass": _quoted("geller1999", errors=ERRORS),
    "geller1999_radius": _quoted("geller1999", "radius"),
    "lokas2003_delta": _quoted("lokas2003", "delta"),
    "lokas2003_mass": _quoted("lokas2003", errors=ERRORS),
    "lokas2003_radius": _setting(_lokas_radius, CONVERSIONS, "The radius of this mass at this overdensity."),
    "lokas2003_c": _quoted("lokas2003", "c"),
    "kubo2007_data_release": _untested("The name of a data release."),
    "kubo2007_mass": _quoted("kubo2007", errors=ERRORS),
    "gavazzi2009_mass": _quoted("gavazzi2009", errors=ERRORS),
    "lensing_tension": _setting(lambda: _tension("kubo2007", "gavazzi2009"), TENSIONS, FACING),
    "falco2014_mass": _quoted("falco2014", errors=ERRORS),
    "falco2014_delta": _quoted("falco2014", "delta"),
    "kodiramanah2020_log_m200c": _quoted("kodiramanah2020", errors=ERRORS),
}  # fmt: skip


def _sigmas(percentile: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(percentile / 100))


def _historical_entry(key: str, variant: str) -> Entry:
    def compute(run):
        e = _estimate(key, variant)
        return e.m200c, e.m200c - e.m200c_lo, e.m200c_hi - e.m200c

    return Entry(compute, CONVERSIONS)


def _table1_entry(model: tuple[str, int, bool], column: str) -> Entry:
    def compute(run):
        row = run.table1.loc[model]
        if column.endswith(("_lo", "_hi")):  # percentiles in our file, offsets from the median in print
            return abs(float(row[column] - row[f"{column[:-3]}_median"]))
        return float(row[column])

    return Entry(compute, COMA_TABLE if column.startswith("coma") else RESIDUALS)


COLUMNS = {
    "val_median": "residual median, own simulation", "val_lo": "median to 16 %, own", "val_hi": "median to 84 %, own",
    "xval_median": "residual median, other simulation", "xval_lo": "median to 16 %, other",
    "xval_hi": "median to 84 %, other", "sqrt_var_val": "root of mean variance, own",
    "sqrt_var_xval": "root of mean variance, other", "coma_mean": "mass of Coma", "coma_sigma": "its sigma",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the scoreboard: texts, but for `difference`, in units of the printed error (NaN: none printed)."""

    id: str
    section: str
    quantity: str
    published: str
    ours: str
    difference: float
    status: str
    remark: str
    slip: str
    page: str


def ledger() -> list[tuple[str, str, dict, Entry]]:
    """All numbers of the paper: id, what it is, the entry of the ledger as printed, how it is computed."""
    printed = literature.published(as_printed=True)
    found = [(name, _in_words(name), entry, ENTRIES[name]) for name, entry in printed["values"].items()]
    for row in printed["historical"]:
        e = _estimate(row["key"], row["variant"])
        entry = {"section": "Historical masses", "unit": "Msun/h", **row, "value": row["m200c"]}
        if "m200c" in row.get("corrected", {}):
            entry["corrected"] = {**row["corrected"], "value": row["corrected"]["m200c"]}
        what = f"M200c of {e.label} {e.year}" + (f", {e.variant}" if e.variant else "")
        name = "_".join(filter(None, ("m200c", e.key, e.variant)))
        found.append((name, what, entry, _historical_entry(e.key, e.variant)))
    for row in printed["table1"]:
        model = (row["simulation"], int(row["input_dim"]), row["reweighted"] == "true")
        for column, what in COLUMNS.items():
            unit = "log10 Msun/h" if column == "coma_mean" else "dex"
            entry = {"value": row[column], "unit": unit, "section": "Table 1"}
            if column == "coma_mean":
                entry |= {"minus": row["coma_sigma"], "plus": row["coma_sigma"]}
            if column.endswith("median"):
                entry |= {"minus": row[column.replace("median", "lo")], "plus": row[column.replace("median", "hi")]}
            name = model_name(*model)
            title = f"{model[0]} {model[1]}D{', re-weighted' * model[2]}: {what}"
            found.append((f"table1_{name}_{column}", title, entry, _table1_entry(model, column)))
    return found


WORDS = {
    "coma": "Coma", "mdpl2": "MDPL2", "uchuu": "Uchuu", "sdss": "SDSS", "kde": "KDE", "zwicky": "Zwicky", "1d": "1D",
    "2d": "2D", "m200c": "M200c", "r200c": "R200c", "mstar": "M*", "min": "lowest", "hubble": "Hubble",
    "gain": "gain in", "tension": "tension with", "gavazzi": "Gavazzi et al.", "kubo": "Kubo et al.",
    "lensing": "lensing masses:", "omega": "Omega", "the1986": "The & White:", "hughes1989": "Hughes:",
    "geller1999": "Geller et al.:", "lokas2003": "Łokas & Mamon:", "kubo2007": "Kubo et al.:",
    "gavazzi2009": "Gavazzi et al.:", "falco2014": "Falco et al.:", "kodiramanah2020": "Kodi Ramanah et al.:",
    "draws": "dropout draws", "ranges": "residual ranges",
}  # fmt: skip


def _in_words(name: str) -> str:
    """The id of a number as a reader would write it."""
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    return words.replace("lensing masses: tension with", "tension between the lensing masses")


def rows(run: Run) -> list[Row]:
    """The scoreboard of a run: a row for every number of the paper, in the order of the ledger.

    Raises `ClusterToolsError`, with the command that makes it, if an artefact of the run is missing.
    """
    found = []
    for name, what, entry, how in ledger():
        ours = None if how.compute is None else how.compute(run)
        status, difference = (NOT_TESTABLE, np.nan) if ours is None else judge(entry, ours)
        slip = entry.get("slip", "")
        if "corrected" in entry and ours is not None and status != REPRODUCED:
            slip += f" With this mended: {judge(entry | entry['corrected'], ours)[0]}."
        errors = [entry["minus"], entry["plus"]] if "minus" in entry else []
        values = entry["value"] if isinstance(entry["value"], list) else [entry["value"]]
        unit = entry["unit"]
        limit = {"most": "≤ ", "least": "≥ "}.get(entry.get("bound"), "~ " if "about" in entry else "")
        found.append(
            Row(
                id=name,
                section=entry["section"].split(";")[0],
                quantity=what,
                published=f"{limit}{_text(values, errors)} {unit}".strip(),
                ours="" if ours is None else _ours_text(values, errors, ours),
                difference=difference,
                status=status,
                remark=" ".join(filter(None, (how.remark, entry.get("note") and _sentence(entry["note"])))),
                slip=slip,
                page=how.page,
            )
        )
    return found


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _ours_text(values: list[str], errors: list[str], ours) -> str:
    """Our numbers with the digits of the printed ones, and one more unless that is a zero."""
    numbers = [float(number) for number in np.atleast_1d(np.asarray(ours, float))]
    like = values + errors if isinstance(ours, tuple) else values
    shown = []
    for number, text in zip(numbers, like, strict=True):
        mantissa, _, exponent = text.lower().partition("e")
        decimals = len(mantissa.partition(".")[2])
        scaled = number / 10.0 ** int(exponent or 0)
        decimals += abs(scaled - round(scaled, decimals)) > 0.05 * 10.0**-decimals
        shown.append(f"{scaled:.{decimals}f}" + (f"e{exponent}" if exponent else ""))
    return _text(shown[: len(values)], shown[len(values) :])


def _text(values: list[str], errors: list[str]) -> str:
    """Printed numbers with errors for readers; a common power of ten is set apart."""
    mantissas, exponents = zip(*(text.lower().partition("e")[::2] for text in (*values, *errors)), strict=True)
    shown = ", ".join(mantissas[: len(values)])
    if errors:
        minus, plus = mantissas[len(values) :]
        shown += f" ± {plus}" if minus == plus else f" −{minus} +{plus}"
    if exponents[0]:
        shown = f"({shown})" if len(mantissas) > 1 else shown
        shown += f" × 10<sup>{int(exponents[0])}</sup>"
    return shown.replace("-", "−")


def counts(board: list[Row]) -> dict[str, int]:
    """How many rows there are of each status."""
    return {status: sum(row.status == status for row in board) for status in STATUSES}


def table(board: list[Row]) -> Styler:
    """The scoreboard as a table for a page: four columns, remarks below the numbers, sections as headings."""
    import pandas as pd

    sections = list(dict.fromkeys(row.section for row in board))
    ordered = sorted(board, key=lambda row: sections.index(row.section))
    begins = [row.section != before.section for row, before in zip(ordered[1:], ordered)]
    frame = pd.DataFrame(
        {
            "number": [_number(row, first) for row, first in zip(ordered, [True, *begins])],
            "published": [_minus(row.published) for row in ordered],
            "here": [_here(row) for row in ordered],
            "status": [f"{STATUSES[row.status][1]} {row.status}{_link(row.page)}" for row in ordered],
        }
    )
    colours = [f"background-color: {STATUSES[row.status][2]}; color: #111" for row in ordered]
    return (
        frame.style.set_uuid("scoreboard")
        .hide()
        .apply(lambda column: colours, subset=["status"])
        .set_table_styles(
            [
                {"selector": "th, td", "props": "text-align: left; vertical-align: top; padding: 0.3rem 0.6rem"},
                {"selector": "td.col0", "props": "min-width: 11em; max-width: 24em"},
                {"selector": "td.col1, td.col2", "props": "max-width: 13em"},
                {"selector": "td.col3", "props": "white-space: nowrap"},
                {"selector": "td.col3 a", "props": "color: inherit"},
                {"selector": ".section", "props": "font-weight: bold; padding: 1em 0 0.5em"},
                {"selector": ".remark", "props": "font-size: 0.85em; opacity: 0.85"},
            ]
        )
    )


def _number(row: Row, first: bool) -> str:
    """What the number is; above it the section that it is the first of, below it slip and remark."""
    section = f'<div class="section">{escape(row.section)}</div>' if first else ""
    remark = " ".join(filter(None, (row.slip and f"Slip: {row.slip}", row.remark)))
    return section + escape(row.quantity) + (f'<div class="remark">{_minus(remark)}</div>' if remark else "")


def _here(row: Row) -> str:
    return _minus(row.ours) + ("" if np.isnan(row.difference) else f" ({_minus(f'{row.difference:+.1f}')} σ)")


def _minus(text: str) -> str:
    """HTML of our own with a minus sign where a hyphen stands before a digit."""
    return re.sub(r"-(?=\d)", "−", text)


def _link(page: str) -> str:
    """The chapter that computes or uses the number, as a link to the place."""
    if not page:
        return ""
    file, anchor = page.split("#")
    return f'<br><a href="{file}.html#{anchor}">chapter {int(file[:2])}</a>'
