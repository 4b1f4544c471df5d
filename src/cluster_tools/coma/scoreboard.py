"""Every number of the paper beside the same number of this book: reproduced or not.

``results/published.yml`` has the numbers as printed, ``data/scoreboard.yml`` their places in the book. `RESULTS`
computes results, `SETTINGS` has the choices of this code, and both are compared. Numbers that the paper quotes from
other works are only taken over.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, partial

import numpy as np
import pandas as pd

from cluster_tools import cosmology
from cluster_tools.coma import literature, nfw, survey
from cluster_tools.cosmology import PAPER_SIMULATIONS, SIMULATIONS
from cluster_tools.mocks import catalogs, kde, observe
from cluster_tools.networks import cnn
from cluster_tools.networks.models import model_name

RESULT, SETTING, QUOTED = "result", "setting", "quoted"  # groups, which are counted apart
REPRODUCED, CONSISTENT, DIFFERS = "reproduced", "consistent", "differs"
TAKEN_OVER, NOT_TESTABLE = "taken over", "not testable here"
STATUSES = {  # meaning, mark, and background; marks and backgrounds stay apart without colour vision
    DIFFERS: ("anything else", "≠", "#f2b48c"),
    CONSISTENT: (
        "within 2 standard errors: the error that the paper prints; in Table 1, where it prints none, ours and the "
        "rounding of its digits", "≈", "#f3e9b5"),
    REPRODUCED: ("agrees to the last printed digit, its errors included; a limit holds", "✓", "#b9dcf2"),
    TAKEN_OVER: ("a definition, or a number of another work; this book starts from it", "→", "#e4d9f2"),
    NOT_TESTABLE: ("for the reason given beside it", "–", "#dddddd"),
}  # fmt: skip
TABLE1 = "05_validation#residuals-table-1-left-to-right"
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
SIGMAS = 2.0  # standard errors within which a number is consistent


def judge(printed: Mapping, ours, error: float = 0.0) -> tuple[str, float]:
    """`REPRODUCED`, `CONSISTENT` or `DIFFERS`, and the difference in standard errors (NaN: there is none).

    `printed` is an entry of ``literature.published(as_printed=True)``: text under ``value`` (or a list), and where the
    paper has them ``minus``, ``plus`` and ``bound``. ``tolerance``, a fraction of the value, replaces half the last
    digit. `ours` is a number, a list where the ledger has one, or a tuple (value, minus, plus) to be compared with the
    printed errors as well. `error` is the standard error of our number, to which the rounding of the printed one is
    added; it is used where the paper prints no error. NaN differs.
    """
    texts = np.atleast_1d(printed["value"]).tolist()
    texts += [printed["minus"], printed["plus"]] if isinstance(ours, tuple) else []
    slack = np.array([_slack(text, printed) for text in texts]) * (1 + 1e-6)  # allows for binary fractions
    gap = np.atleast_1d(np.asarray(ours, float)) - np.array(texts, float)
    within = {"most": gap <= slack, "least": gap >= -slack}.get(printed.get("bound"), np.abs(gap) <= slack)
    difference = np.nan
    if "minus" in printed:
        difference = float(gap[0] / float(printed["plus" if gap[0] > 0 else "minus"]))
    elif error > 0:
        difference = float(gap[0] / np.hypot(error, slack[0] / np.sqrt(3)))
    if np.all(within):
        return REPRODUCED, difference
    return (CONSISTENT if abs(difference) <= SIGMAS else DIFFERS), difference


def _slack(text: str, printed: Mapping) -> float:
    """Largest deviation from a printed number: half a unit of its last digit, unless there is a tolerance."""
    if "tolerance" in printed:
        return float(printed["tolerance"]) * abs(float(text))
    return 10.0 ** Decimal(text).as_tuple().exponent / 2


@dataclass(frozen=True)
class Run:
    """Results of a run of the book."""

    table1: pd.DataFrame  # table1.csv of the chapter that weighs Coma; lo and hi are percentiles, not offsets
    catalogs: dict  # name of the simulation -> `catalogs.MockCatalog`
    draws: int  # dropout draws with which Coma was weighed

    @cached_property
    def models(self) -> pd.DataFrame:
        """The networks' rows of Table 1, indexed by (simulation, input_dim, reweighted)."""
        return self.table1.query("input_dim > 0").set_index(["simulation", "input_dim", "reweighted"])

    def table1_number(self, model: tuple[str, int, bool], column: str) -> float:
        """A number of Table 1, with offsets from the median as the paper prints them."""
        row = self.models.loc[model]
        offset = column.endswith(("_lo", "_hi"))
        return abs(float(row[column] - row[f"{column[:-3]}_median"])) if offset else float(row[column])

    def n_training(self, simulation: str) -> int:
        """Training observations when one fold is left out."""
        return round(self.catalogs[simulation].in_train.sum() * (1 - 1 / catalogs.FOLDS))

    def gain(self, input_dim: int) -> float:
        """Mean reduction [%] of the residuals' 16-84 half-width below M-sigma, in the cylinder of Ho et al. (2019).

        In the paper's larger cylinder the dispersion hardly depends on mass, even when clipped, and
        any network would win by far.
        """
        width = self.table1.set_index("simulation").eval("val_hi - val_lo")
        networks = width[(self.table1["input_dim"] == input_dim).to_numpy()]
        m_sigma = width[(self.table1["input_dim"] == 0).to_numpy()]
        return float(100 * (1 - networks / m_sigma[networks.index].to_numpy()).mean())

    def upweighted_radius(self) -> float:
        """Radius [Mpc/h] out to which re-weighting to Coma's profile raises the mean weight of a galaxy."""
        catalog = self.catalogs["uchuu"]
        test = catalog.select(catalog.in_test & (catalog.line_of_sight == 0))
        weights = kde.radial_weights(test.r_proj, test.offsets, survey.load_sample()["r_proj"].value)
        bins = np.minimum((test.r_proj / kde.APERTURE * kde.PIXELS).astype(int), kde.PIXELS - 1)
        mean = np.bincount(bins, weights, kde.PIXELS) / np.maximum(np.bincount(bins, minlength=kde.PIXELS), 1)
        return float(kde.r_proj_grid()[np.flatnonzero(mean > 1)[-1]])


def _tension(first: str, second: str | None = None) -> float:
    """Tension between two works, or of one with the paper's mass [sigma]."""
    masses = {e.key: e.in_dex for e in literature.estimates()}
    return literature.tension(masses[first], masses[second] if second else _paper_mass())


def _largest_tension(lensing: bool = True, since: int = 0) -> float:
    """Largest tension of the estimates that the paper knew with its mass; of those since a year, but for lensing."""
    known = [e for e in literature.estimates() if not e.later and e.year >= since]
    return max(_tension(e.key) for e in known if lensing or "lensing" not in e.method)


def _c200c_tension() -> float:
    """Largest distance of a measured concentration from the assumed one, over the error that faces it [sigma]."""
    assumed = (literature.FIDUCIAL_C200C, 0.0, 0.0)
    return max(literature.tension(c, assumed) for c in literature.concentrations().values() if np.isfinite(c[1]))


def _works(keep: Callable = lambda e: True) -> int:
    """Number of works before the paper with an estimate for which `keep` is true."""
    return len({e.key for e in literature.estimates() if not e.later and keep(e)})


def _paper_mass() -> tuple[float, float, float]:
    entry = literature.published()["values"]["coma_log_m200c"]
    return entry["value"], entry["minus"], entry["plus"]


def _paper_r200c(run) -> tuple[float, float, float]:
    value, minus, plus = _paper_mass()
    low, middle, high = cosmology.r200c([value - minus, value, value + plus], cosmology.COMA_REDSHIFT)
    return float(middle), float(middle - low), float(high - middle)


def _lokas_radius(run) -> float:
    """Radius [Mpc/h70] that holds Łokas & Mamon's mass at their overdensity."""
    quoted = literature.published()["values"]
    mass, delta = quoted["lokas2003_mass"]["value"] * 0.7, quoted["lokas2003_delta"]["value"]
    return float(nfw.overdensity_radius(mass, delta)) / 0.7


def _particle_mass(run: Run, simulation: str) -> float:
    """Mean matter density of a simulation's cosmology over the paper's number of particles [Msun/h]."""
    particles = literature.published()["values"][f"{simulation}_particles"]["value"] ** 3
    box = SIMULATIONS[simulation]
    return float(box.omega_m * cosmology.critical_density() * box.box_size**3 / particles)


UCHUU = SIMULATIONS["uchuu"]
RESULTS = {  # functions of a `Run`
    "dark_matter_of_matter": lambda run: 100 * (1 - UCHUU.omega_b / UCHUU.omega_m),
    "dark_matter_of_mass_energy": lambda run: 100 * (UCHUU.omega_m - UCHUU.omega_b),
    "coma_log_m200c": lambda run: tuple(run.models.loc[("uchuu", 2, False), ["coma_mean", *2 * ["coma_sigma"]]]),
    "coma_r200c": _paper_r200c,
    "training_examples": lambda run: min(map(run.n_training, PAPER_SIMULATIONS)),
    "weights_to_integrate": lambda run: sum(map(math.prod, cnn.Architecture(2).shapes())),
    "upweighted_radius": Run.upweighted_radius,
    "gain_1d": lambda run: run.gain(1),
    "gain_2d": lambda run: run.gain(2),
    "tension_gavazzi": lambda run: _tension("gavazzi2009"),
    "tension_kubo": lambda run: _tension("kubo2007"),
    "tension_others": lambda run: _largest_tension(lensing=False),
    "tension_past_decade": lambda run: _largest_tension(since=2012),
    "lensing_tension": lambda run: _tension("kubo2007", "gavazzi2009"),
    "c200c_tension": lambda run: _c200c_tension(),
    "lokas2003_radius": _lokas_radius,
    "earlier_estimates": lambda run: _works(),
    "oldest_estimates": lambda run: _works(lambda e: e.variant == "relaxed"),
    "lensing_estimates": lambda run: _works(lambda e: "lensing" in e.method),
    "recent_estimates": lambda run: _works(lambda e: e.year >= 2012),
}
SETTINGS = {  # functions of a `Run`; a mapping has the number in the unit as printed, and in that as meant
    "draws": lambda run: run.draws,
    "velocity_cut": lambda run: observe.VELOCITY_CUT,
    "aperture": lambda run: observe.APERTURE,
    "min_m200c": lambda run: 10 ** min(
        catalogs.TEST_LOG_M200C, *(SIMULATIONS[name].log_m200c_range[0] for name in PAPER_SIMULATIONS)
    ),
    "log_number_density": lambda run: np.log10(catalogs.ROWS_PER_DEX / 1000**3),
    "min_log_mstar": lambda run: {
        "log10 Msun": cosmology.MIN_LOG_MSTAR, "log10 Msun/h": cosmology.MIN_LOG_MSTAR + np.log10(cosmology.HUBBLE),
    },
    "image_bins": lambda run: kde.PIXELS,
    "kde_bandwidth": lambda run: kde.BANDWIDTH,
    "sdss_data_release": lambda run: survey.SDSS_RELEASE,
    "h": lambda run: cosmology.HUBBLE,
    "omega_m": lambda run: cosmology.OMEGA_M,
    "omega_lambda": lambda run: 1 - cosmology.OMEGA_M,
    "c200c": lambda run: literature.FIDUCIAL_C200C,
}  # fmt: skip
for _name in PAPER_SIMULATIONS:
    RESULTS[f"{_name}_particle_mass"] = partial(_particle_mass, simulation=_name)
    RESULTS[f"training_clusters_{_name}"] = partial(Run.n_training, simulation=_name)
    SETTINGS[f"{_name}_box"] = partial(lambda name, run: run.catalogs[name].provenance["box_size"], _name)
    SETTINGS[f"{_name}_redshift"] = partial(lambda name, run: SIMULATIONS[name].redshift, _name)


def _ledger() -> Iterator[dict]:
    """All numbers of the paper: id, title, entry as printed, group, function of a `Run` or None, page, remark."""
    printed, places = literature.published(as_printed=True), literature.read_yaml("scoreboard.yml")
    estimates = {(e.key, e.variant): e for e in literature.estimates()}
    pages = {name: (RESULT, "", reason) for name, reason in places["untested"].items()}
    for group, part in ((RESULT, "results"), (SETTING, "settings")):
        pages |= {n: (group, page, text or "") for page, names in places[part].items() for n, text in names.items()}
    for name, entry in printed["values"].items():
        group, page, remark = pages.get(name, (QUOTED, places["quoted"], ""))
        title = places["words"].get(name) or " ".join(places["words"].get(word, word) for word in name.split("_"))
        compute = RESULTS.get(name, SETTINGS.get(name))
        yield {"id": name, "quantity": title, "entry": entry, "group": group, "compute": compute, "page": page,
               "remark": remark}  # fmt: skip
    for row in printed["historical"]:
        e = estimates[row["key"], row["variant"]]
        entry = {"section": "Historical masses", "unit": "Msun/h", **row, "value": row["m200c"]}
        if "m200c" in row.get("corrected", {}):
            entry["corrected"] = row["corrected"] | {"value": row["corrected"]["m200c"]}
        title = f"M200c of {e.label} {e.year}" + f", {e.variant}" * bool(e.variant)
        yield {"id": "_".join(filter(None, ("m200c", e.key, e.variant))), "quantity": title, "entry": entry,
               "group": RESULT, "compute": lambda run, masses=e.linear: masses, "page": places["quoted"],
               "remark": ""}  # fmt: skip
    for row in printed["table1"]:
        model = (row["simulation"], int(row["input_dim"]), row["reweighted"] == "true")
        for column, words in places["table1"].items():
            entry, page = {"value": row[column], "unit": "dex", "section": "Table 1"}, TABLE1
            if column in ("coma_mean", "coma_sigma"):
                page = "08_coma_mass#table-1"
            if column == "coma_mean":
                entry |= {"unit": "log10 Msun/h", "minus": row["coma_sigma"], "plus": row["coma_sigma"]}
            title = f"{SIMULATIONS[model[0]].title} {model[1]}D{', re-weighted' * model[2]}: {words}"
            yield {"id": f"table1_{model_name(*model)}_{column}", "quantity": title, "entry": entry, "group": RESULT,
                   "compute": partial(Run.table1_number, model=model, column=column), "page": page, "remark": "",
                   "error": lambda run, row=model, name=f"{column}_error": float(run.models.loc[row].get(name, 0.0)),
                   }  # fmt: skip


def rows(run: Run) -> pd.DataFrame:
    """The scoreboard of a run: a row for every number of the paper, in the order of the ledger.

    Columns: ``id``, ``group``, ``section``, ``quantity``, ``published``, ``ours``, ``status``, ``remark``, ``slip``
    and ``page`` as text; ``difference`` in standard errors (NaN: none is known).
    """
    board = []
    for row in _ledger():
        entry, compute = row.pop("entry"), row.pop("compute")
        error = row.pop("error", lambda run: 0.0)(run)
        status, difference, text = (TAKEN_OVER if row["page"] else NOT_TESTABLE), np.nan, ""
        slip, note = entry.get("slip", ""), entry.get("note", "")
        errors = [entry["minus"], entry["plus"]] if "minus" in entry else []
        values = np.atleast_1d(entry["value"]).tolist()
        if compute is not None:
            found = compute(run)
            units = found if isinstance(found, dict) else {}
            ours = units.get(entry["unit"], found)
            status, difference = judge(entry, ours, error)
            text = _ours_text(values, errors, ours)
            if "corrected" in entry and status != REPRODUCED:
                meant = entry | entry["corrected"]
                slip += f" With this mended: {judge(meant, units.get(meant['unit'], ours))[0]}."
        limit = {"most": "≤ ", "least": "≥ "}.get(entry.get("bound"), "")
        number = f"{limit}{'~ ' * ('about' in entry)}{_text(values, errors)}"
        number = f"(in words) {number}" if "claim" in entry else number
        remark = f"{row.pop('remark')} {note}{'.' * (note[-1:].isalnum())}".strip()
        board.append(row | {
            "section": entry["section"].split(";")[0], "published": f"{number} {entry['unit']}".strip(), "ours": text,
            "difference": difference, "status": status, "slip": slip, "remark": remark,
        })  # fmt: skip
    return pd.DataFrame(board)


def _ours_text(values: list[str], errors: list[str], ours) -> str:
    """Our numbers with the digits of the printed ones, and one more unless that is a zero."""
    texts = []
    for number, like in zip(np.atleast_1d(np.asarray(ours, float)).tolist(), values + errors):
        mantissa, _, exponent = like.lower().partition("e")
        decimals = len(mantissa.partition(".")[2])
        scaled = number / 10.0 ** int(exponent or 0)
        decimals += abs(scaled - round(scaled, decimals)) > 0.05 * 10.0**-decimals
        texts.append(f"{scaled:.{decimals}f}" + (f"e{exponent}" if exponent else ""))
    return _text(texts[: len(values)], texts[len(values) :])


def _text(values: list[str], errors: list[str]) -> str:
    """Printed numbers with errors for readers; a common power of ten is set apart."""
    mantissas, exponents = zip(*(text.lower().partition("e")[::2] for text in (*values, *errors)), strict=True)
    text = ", ".join(mantissas[: len(values)])
    if errors:
        minus, plus = mantissas[len(values) :]
        text += f" ± {plus}" if minus == plus else f" −{minus} +{plus}"
    if exponents[0]:
        text = f"({text})" if len(mantissas) > 1 else text
        text += f" × 10{str(int(exponents[0])).translate(SUPERSCRIPTS)}"
    return text.replace("-", "−")
