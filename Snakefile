# Order and parallelism of the chapters; `make book` calls this through `cluster-tools book`.
# cluster_tools.chapters decides by content which chapters must run again. Only those become
# rules here, and all of them run (--forceall); the record that each leaves carries the key of its
# content in its name. A chapter keeps its artefacts from run to run, so they are no outputs,
# which Snakemake would delete before the run or after a failure.
import json
import sys

from cluster_tools.book import chapters

PROFILE = config.get("profile", "book")
RUNS = chapters.plan(PROFILE)
KEYS = chapters.keys(RUNS)
PENDING = chapters.pending(RUNS, KEYS)


def record(run):
    return str(chapters.record_path(run, KEYS[run.name].page))


rule all:
    input:
        [record(run) for run in PENDING],


for run in PENDING:

    rule:
        name:
            run.name
        input:
            [record(other) for other in chapters.upstream(run, RUNS) if other in PENDING],
        output:
            record(run),
        params:
            python=sys.executable,
            run=run.name,
            planned=json.dumps({each.name: KEYS[each.name] for each in (run, *chapters.upstream(run, RUNS))}),
        # What needs most memory takes longest, too; begun last, it would be alone at the end.
        priority: run.memory_mb
        threads: 1
        resources:
            mem_mb=run.memory_mb,
        shell:
            "exec {params.python:q} -m cluster_tools.cli run-chapter --profile {PROFILE:q} --keys {params.planned:q} {params.run}"
