# The chapters of the book as rules; notebooks/chapters.yml says which there are. `make book` calls this, and so can you:
#   snakemake --config profile=smoke -n          which chapters would run, and why
#   snakemake --config profile=smoke --cores 2   run them, and build their pages
import os
import shlex
import sys

from cluster_tools import machine, paths
from cluster_tools.book import chapters, publish

machine.collect_garbage_rarely()
PROFILE = config.get("profile", "book")
RUNS = chapters.plan(PROFILE)
shell.prefix(f"PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")


def relative(files):
    return [paths.shown(file) for file in files]


SITE = paths.shown(publish.site_path(PROFILE) / "index.html")
EXECUTED = relative(chapters.executed_path(run) for run in RUNS)
RECORDS = relative(chapters.record_path(run) for run in RUNS)


localrules:
    all,
    chapters,


rule all:
    input:
        RECORDS,
        SITE,


rule chapters:
    input:
        RECORDS,


rule pages:
    input:
        chapters=EXECUTED,
        records=RECORDS,
        sources=relative(publish.inputs()),
    output:
        update(SITE),
    log:
        paths.shown(paths.results(PROFILE) / "logs" / "pages.log"),
    params:
        profile=PROFILE,
    resources:
        mem_mb=2000,
    conda:
        "environment.yml"
    shell:
        "exec python -m cluster_tools.cli build-pages --profile {params.profile:q} 2> {log:q}"


for run in RUNS:

    rule:
        name:
            run.name
        input:
            **{kind: relative(files) for kind, files in chapters.inputs(run).items()},
        output:
            executed=relative([chapters.executed_path(run)]),
            record=relative([chapters.record_path(run)]),
            # A chapter loads an artefact whose stamp is the one that it asks for, so Snakemake must not delete it.
            artefacts=[update(name) for name in relative(run.results / name for name in run.writes)],
        log:
            paths.shown(run.results / "logs" / f"{run.name}.log"),
        params:
            profile=PROFILE,
            run=run.name,
            parameters=chapters.result_parameters(run),
        # The chapter that needs most memory takes longest, too; if it began last, it would run alone at the end.
        priority: run.memory_mb
        threads: 1
        resources:
            mem_mb=run.memory_mb,
        conda:
            "environment.yml"
        shell:
            "exec python -m cluster_tools.cli run-chapter --profile {params.profile:q} {params.run:q} 2> {log:q}"
