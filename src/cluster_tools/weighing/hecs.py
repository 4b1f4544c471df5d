"""All 58 clusters of the Hectospec Cluster Survey (Rines et al. 2013, ApJ 767, 15), asked from VizieR."""

from __future__ import annotations

from astropy.table import Table, vstack

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError

CATALOGUE = "J/ApJ/767/15"
# Rows and columns of its tables; VizieR joins the parts of a position.
TABLES = {
    "table1": (58, ("Name", "RAJ2000", "DEJ2000", "z", "sig", "Nm")),
    "table2": (22680, ("RAJ2000", "DEJ2000", "cz", "e_cz", "q_cz")),
    "table3": (2621, ("RAJ2000", "DEJ2000", "cz", "e_cz")),
}


def fetch() -> tuple[Table, Table]:
    """Galaxies, for `galaxy_table.read`, and clusters, for `cylinders.read_centres`; VizieR's answers are cached.

    Galaxies are those of Hectospec with a secure redshift (quality Q or ?), and members with redshifts from the
    literature. Raises `ClusterToolsError` if VizieR cannot be reached or sends other tables.
    """
    clusters, hectospec, literature = (
        store.cached_table(paths.cache() / f"hecs_{name}.ecsv", f"{CATALOGUE}/{name}", lambda name=name: _ask(name))
        for name in TABLES
    )
    secure = hectospec[hectospec["q_cz"] != "X"][literature.colnames]
    return vstack([secure, literature], metadata_conflicts="silent"), clusters


def _ask(name: str) -> Table:
    from astroquery import cache_conf
    from astroquery.vizier import VizierClass, conf

    rows, columns = TABLES[name]
    try:
        with cache_conf.set_temp("cache_active", False):  # its cache would keep an error page
            [table] = VizierClass(columns=list(columns), row_limit=-1).get_catalogs(f"{CATALOGUE}/{name}")
        found = f"{len(table)} rows of {', '.join(table.colnames)}"
        if len(table) == rows and set(columns) <= set(table.colnames):
            table = table[list(columns)].filled()
            for column in columns:
                table[column].unit = None  # "h:m:s" is none of astropy's
            return table
    except Exception as error:  # no connection, or any text in place of a table
        found = f"no whole answer ({type(error).__name__})"
    raise ClusterToolsError(
        f"VizieR at {conf.server} sent {found} as {CATALOGUE}/{name}; expected {rows} rows of {', '.join(columns)}: "
        "try again later, or set astroquery.vizier.conf.server to a mirror."
    )
