"""Every number of the paper beside the same number of this book: reproduced or not.

``results/published.yml`` has the numbers as printed, ``data/scoreboard.yml`` their places in the book. `results` and
`settings`, the choices of this code, are compared with them. Numbers that the paper quotes from other works are only
taken over.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from html import escape

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy.stats import binned_statistic

from cluster_tools import cosmology, paths, store
from cluster_tools.coma import literature, nfw, survey
from cluster_tools.cosmology import PAPER_SIMULATIONS, SIMULATIONS
from cluster_tools.mocks import catalogs, kde, observe
from cluster_tools.mocks.comparison import SUPERSCRIPT
from cluster_tools.networks import cnn
from cluster_tools.networks.models import model_name

RESULT, SETTING, QUOTED = "result", "setting", "quoted"  # groups, which are counted apart
REPRODUCED, CONSISTENT, DIFFERS = "reproduced", "consistent", "differs"
TAKEN_OVER, NOT_TESTABLE = "taken over", "not testable here"
STATUSES = {  # meaning, mark, and background; marks and backgrounds stay apart without colour vision
    DIFFERS: (
        "neither reproduced nor consistent; a number with no error, printed or ours, can only be reproduced or differ",
        "≠", "#f2b48c",
    ),
    CONSISTENT: (
        "within 2 standard errors. The error is the printed one; where Table 1 prints none, it is our bootstrap error "
        "and the rounding of the paper's digits, in quadrature", "≈", "#f3e9b5"),
    REPRODUCED: (
        "agrees to the last printed digit, and so do errors; or meets a printed limit, once our number is rounded to "
        "the limit's digits", "✓", "#b9dcf2"),
    TAKEN_OVER: ("a definition, a number of another work, or a setting that our code does not have", "→", "#e4d9f2"),
    NOT_TESTABLE: ("for the reason given in its row", "–", "#dddddd"),
}  # fmt: skip
SIGMAS = 2.0  # standard errors within which a number is consistent


def judge(printed: Mapping, ours, error: float = 0.0) -> tuple[str, float]:
    """`REPRODUCED`, `CONSISTENT` or `DIFFERS`, and the difference in standard errors (NaN: there is none).

    `printed` is an entry of ``literature.published(as_printed=True)``: text under ``value`` (or a list), and where the
    paper has them ``minus``, ``plus`` and ``bound``. A number is reproduced to half its last printed digit, or to
    ``tolerance``, a share of its value (`STATUSES`). `ours` is a number, a list where the ledger has one, or a tuple
    (value, minus, plus) to be compared with the printed errors as well. `error` is the standard error of our number,
    to which the rounding of the printed one is added; it is used where the paper prints no error. NaN differs.
    """
    texts = np.atleast_1d(printed["value"]).tolist()
    texts += [printed["minus"], printed["plus"]] if isinstance(ours, tuple) else []
    numbers, half_digits = np.array(texts, float), [10.0 ** Decimal(text).as_tuple().exponent / 2 for text in texts]
    slack = float(printed["tolerance"]) * np.abs(numbers) if "tolerance" in printed else np.array(half_digits)
    slack = slack * (1 + 1e-6)  # allows for binary fractions
    gap = np.atleast_1d(np.asarray(ours, float)) - numbers
    within = {"most": gap <= slack, "least": gap >= -slack}.get(printed.get("bound"), np.abs(gap) <= slack)
    difference = np.nan
    if "minus" in printed:
        difference = float(gap[0] / float(printed["plus" if gap[0] > 0 else "minus"]))
    elif error > 0:
        difference = float(gap[0] / np.hypot(error, slack[0] / np.sqrt(3)))
    if np.all(within):
        return REPRODUCED, difference
    return (CONSISTENT if abs(difference) <= SIGMAS else DIFFERS), difference


@dataclass(frozen=True)
class Run:
    """Results of a run of the book."""

    table1: pd.DataFrame  #: table1.csv of the chapter that weighs Coma; lo and hi are percentiles, not offsets
    catalogs: dict  #: name of the simulation -> `catalogs.MockCatalog`
    draws: int  #: dropout draws with which Coma was weighed

    @cached_property
    def models(self) -> pd.DataFrame:
        """The networks' rows of Table 1, indexed by (simulation, input_dim, reweighted)."""
        return self.table1.query("input_dim > 0").set_index(["simulation", "input_dim", "reweighted"])

    def n_training(self, simulation: str) -> int:
        """Training observations when one fold is left out."""
        return round(self.catalogs[simulation].in_train.sum() * (1 - 1 / catalogs.FOLDS))

    def gain(self, input_dim: int) -> float:
        """Mean reduction [%] of the residuals' 16-84 half-width below M-sigma, in the cylinder of Ho et al. (2019).

        In the paper's larger cylinder the dispersion hardly depends on mass, even when clipped, and
        any network would win by far.
        """
        table = self.table1.assign(width=self.table1["val_hi"] - self.table1["val_lo"])
        width = table.pivot_table("width", "simulation", "input_dim")
        return float(100 * (1 - width[input_dim] / width[0]).mean())

    def upweighted_radius(self) -> float:
        """Radius [comoving Mpc/h] out to which re-weighting to Coma's profile raises the mean weight of a galaxy."""
        catalog = self.catalogs["uchuu"]
        test = catalog.select(catalog.in_test & (catalog.line_of_sight == 0))
        weights = kde.radial_weights(test.r_proj, test.offsets, survey.load_sample()["r_proj"].value)
        mean = binned_statistic(test.r_proj, weights, bins=kde.PIXELS, range=(0, kde.APERTURE)).statistic
        return float(kde.r_proj_grid()[np.flatnonzero(mean > 1)[-1]])


def results(run: Run) -> dict:
    """Our results by their names in ``published.yml``: numbers, or tuples (value, lower error, upper error)."""
    quoted, uchuu = literature.published()["values"], SIMULATIONS["uchuu"]
    mass, minus, plus = (quoted["coma_log_m200c"][name] for name in ("value", "minus", "plus"))
    low, radius, high = cosmology.r200c([mass - minus, mass, mass + plus], cosmology.COMA_REDSHIFT).tolist()
    works = {e.key: e for e in literature.estimates() if not e.later}  # of two variants the relaxed one
    tensions = {key: literature.tension(e.in_dex, (mass, minus, plus)) for key, e in works.items()}
    concentrations, assumed = literature.concentrations().values(), (literature.FIDUCIAL_C200C, 0.0, 0.0)
    lokas_mass = quoted["lokas2003_mass"]["value"] * 0.7  # Msun/h; the radius below is in Mpc/h70 again
    boxes, critical = {name: SIMULATIONS[name] for name in PAPER_SIMULATIONS}, cosmology.critical_density()
    matter = {name: float(box.omega_m * critical * box.box_size**3) for name, box in boxes.items()}  # Msun/h
    return {
        "dark_matter_of_matter": 100 * (1 - uchuu.omega_b / uchuu.omega_m),
        "dark_matter_of_mass_energy": 100 * (uchuu.omega_m - uchuu.omega_b),
        "coma_log_m200c": tuple(run.models.loc[("uchuu", 2, False), ["coma_mean", *2 * ["coma_sigma"]]]),
        "coma_r200c": (radius, radius - low, high - radius),
        "training_examples": min(map(run.n_training, PAPER_SIMULATIONS)),
        "weights_to_integrate": sum(map(math.prod, cnn.Architecture(2).shapes())),
        "upweighted_radius": run.upweighted_radius(),
        "gain_1d": run.gain(1),
        "gain_2d": run.gain(2),
        "tension_gavazzi": tensions["gavazzi2009"],
        "tension_kubo": tensions["kubo2007"],
        "tension_others": max(tensions[key] for key, e in works.items() if "lensing" not in e.method),
        "tension_past_decade": max(tensions[key] for key, e in works.items() if e.year >= 2012),
        "lensing_tension": literature.tension(works["kubo2007"].in_dex, works["gavazzi2009"].in_dex),
        "c200c_tension": max(literature.tension(c, assumed) for c in concentrations if np.isfinite(c[1])),
        "lokas2003_radius": float(nfw.overdensity_radius(lokas_mass, quoted["lokas2003_delta"]["value"])) / 0.7,
        "earlier_estimates": len(works),
        "oldest_estimates": sum(e.variant == "relaxed" for e in works.values()),
        "lensing_estimates": sum("lensing" in e.method for e in works.values()),
        "recent_estimates": sum(e.year >= 2012 for e in works.values()),
        **{f"training_clusters_{name}": run.n_training(name) for name in PAPER_SIMULATIONS},
        **{f"{name}_particle_mass": m / quoted[f"{name}_particles"]["value"] ** 3 for name, m in matter.items()},
    }


def settings(run: Run) -> dict:
    """Choices of this code by their names in ``published.yml``; a mapping has the units as printed and as meant."""
    cut, least = cosmology.MIN_LOG_MSTAR, [SIMULATIONS[name].log_m200c_range[0] for name in PAPER_SIMULATIONS]
    return {
        "draws": run.draws,
        "velocity_cut": observe.VELOCITY_CUT,
        "aperture": observe.APERTURE,
        "min_m200c": 10 ** min(catalogs.TEST_LOG_M200C, *least),
        "log_number_density": np.log10(catalogs.ROWS_PER_DEX / 1000**3),
        "min_log_mstar": {"log10 Msun": cut, "log10 Msun/h": cut + np.log10(cosmology.HUBBLE)},
        "image_bins": kde.PIXELS,
        "kde_bandwidth": kde.BANDWIDTH,
        "sdss_data_release": survey.SDSS_RELEASE,
        "h": cosmology.HUBBLE,
        "omega_m": cosmology.OMEGA_M,
        "omega_lambda": 1 - cosmology.OMEGA_M,
        "c200c": literature.FIDUCIAL_C200C,
        **{f"{name}_box": run.catalogs[name].provenance["box_size"] for name in PAPER_SIMULATIONS},
        **{f"{name}_redshift": SIMULATIONS[name].redshift for name in PAPER_SIMULATIONS},
    }


def _ledger(run: Run) -> Iterator[tuple]:
    """All numbers of the paper: id, title, group, page, remark, entry as printed, our number or None, its error."""
    printed, places = literature.published(as_printed=True), store.read_yaml(paths.PACKAGE_DATA / "scoreboard.yml")
    estimates = {(e.key, e.variant): e for e in literature.estimates()}
    pages = {name: (RESULT, "", reason) for name, reason in places["untested"].items()}
    for group, part in ((RESULT, "results"), (SETTING, "settings")):
        pages |= {n: (group, page, text or "") for page, names in places[part].items() for n, text in names.items()}
    computed = results(run) | settings(run)
    for name, entry in printed["values"].items():
        title = places["words"].get(name) or " ".join(places["words"].get(word, word) for word in name.split("_"))
        yield name, title, *pages.get(name, (QUOTED, places["quoted"], "")), entry, computed.get(name), 0.0
    for row in printed["historical"]:
        e = estimates[row["key"], row["variant"]]
        entry = {"section": "Historical masses", "unit": "Msun/h", **row, "value": row["m200c"]}
        if "m200c" in row.get("corrected", {}):
            entry["corrected"] = row["corrected"] | {"value": row["corrected"]["m200c"]}
        title = f"M200c of {e.label} {e.year}" + f", {e.variant}" * bool(e.variant)
        name = "_".join(filter(None, ("m200c", e.key, e.variant)))
        yield name, title, RESULT, places["quoted"], "", entry, e.linear, 0.0
    for row in printed["table1"]:
        model = (row["simulation"], int(row["input_dim"]), row["reweighted"] == "true")
        found = run.models.loc[model]
        for column, words in places["table1"].items():
            of_coma = column in ("coma_mean", "coma_sigma")
            page = "08_coma_mass#table-1" if of_coma else "05_validation#residuals-table-1-left-to-right"
            entry = {"value": row[column], "unit": "dex", "section": "Table 1"}
            if column == "coma_mean":
                entry |= {"unit": "log10 Msun/h", "minus": row["coma_sigma"], "plus": row["coma_sigma"]}
            title = f"{SIMULATIONS[model[0]].title} {model[1]}D{', re-weighted' * model[2]}: {words}"
            ours, error = float(found[column]), float(found.get(f"{column}_error", 0.0))
            if column.endswith(("_lo", "_hi")):  # the paper prints offsets from the median
                ours = abs(ours - float(found[f"{column[:-3]}_median"]))
            yield f"table1_{model_name(*model)}_{column}", title, RESULT, page, "", entry, ours, error


def rows(run: Run) -> pd.DataFrame:
    """The scoreboard of a run: a row for every number of the paper, in the order of the ledger.

    Columns: ``id``, ``group``, ``section``, ``quantity``, ``published``, ``ours``, ``status``, ``remark``, ``slip``
    and ``page`` as text; ``difference`` in standard errors (NaN: none is known).
    """
    board = []
    for name, quantity, group, page, remark, entry, ours, error in _ledger(run):
        status, difference, text = (TAKEN_OVER if page else NOT_TESTABLE), np.nan, ""
        slip, note = entry.get("slip", ""), entry.get("note", "")
        errors = [entry["minus"], entry["plus"]] if "minus" in entry else []
        values = np.atleast_1d(entry["value"]).tolist()
        if ours is not None:
            units = ours if isinstance(ours, dict) else {}
            ours = units.get(entry["unit"], ours)
            status, difference = judge(entry, ours, error)
            text = _ours_text(values, errors, ours)
            past = {"most": np.greater, "least": np.less}.get(entry.get("bound"))
            if past and status == REPRODUCED and past(ours, float(entry["value"])):
                remark += f" Our number, {ours:.3g}, meets the limit once rounded to the limit's digits."
            if "corrected" in entry and status != REPRODUCED:
                meant = entry | entry["corrected"]
                slip += f" With this corrected: {judge(meant, units.get(meant['unit'], ours))[0]}."
        limit = {"most": "≤ ", "least": "≥ "}.get(entry.get("bound"), "")
        number = f"{limit}{'~ ' * ('about' in entry)}{_text(values, errors)}"
        number = f"(in words) {number}" if "claim" in entry else number
        board.append({
            "id": name, "quantity": quantity, "group": group, "page": page, "section": entry["section"].split(";")[0],
            "published": f"{number} {entry['unit']}".strip(), "ours": text, "difference": difference, "status": status,
            "slip": slip, "remark": f"{remark} {note}{'.' * (note[-1:].isalnum())}".strip(),
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
        text += f" × 10{str(int(exponents[0])).translate(SUPERSCRIPT)}"
    return text.replace("-", "−")


def styled(board: pd.DataFrame) -> Styler:
    """`rows` as a table for a page: those that differ first, remarks below the numbers.

    Its four columns of escaped HTML begin with the status, so that a phone shows it; it links to the chapter.
    """
    board = board.iloc[board["status"].map(list(STATUSES).index).argsort(kind="stable")]
    cells = []
    for row in board.itertuples():
        remark = " ".join(filter(None, (row.slip and f"Slip: {row.slip}", row.remark)))
        difference = "" if np.isnan(row.difference) else f" ({row.difference:+z.1f} σ)".replace("-", "−")
        status = f"{STATUSES[row.status][1]} {row.status}"
        cells.append({
            "status": f'<a href="{row.page.replace("#", ".html#")}">{status}</a>' if row.page else status,
            "number": escape(row.quantity) + f'<div class="remark">{escape(remark)}</div>' * bool(remark),
            "published": escape(row.published),
            "here": escape(row.ours) + difference,
        })  # fmt: skip
    colours = [f"background-color: {STATUSES[status][2]}; color: #111" for status in board["status"]]
    style = pd.DataFrame(cells).style.hide().set_table_attributes('class="scoreboard"')
    return style.apply(lambda column: colours, subset=["status"])


def table1_statuses(board: pd.DataFrame) -> pd.DataFrame:
    """Count the statuses of the eight numbers in each column of Table 1, from `rows`."""
    rows = board[board["id"].str.startswith("table1_")]
    column = rows["quantity"].str.split(": ").str[1].rename("column of Table 1")
    counts = pd.crosstab(column, rows["status"]).reindex(columns=list(STATUSES)[:3], fill_value=0)
    return counts.loc[column.unique()].reset_index()
