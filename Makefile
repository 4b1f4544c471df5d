# Two commands: `make book` and `make test`. Nothing is needed before them but python3 and make.
PROFILE ?= book
PYTHON  ?= python3
CORES   ?=
RUN     := .venv/bin/python -m
# pip, uv and the notebooks' kernels must see this environment and no other. Hundreds of processes
# import the same modules, which are compiled once, whatever is set elsewhere.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help book test notebooks neighbourhoods coverage bench attack lock clean
.DELETE_ON_ERROR:

help:
	@echo "make book      run the chapters, build the pages: _build/html/index.html"
	@echo "                 PROFILE=smoke|book|paper   scale of the run (now: $(PROFILE))"
	@echo "                 CORES=N                    chapters side by side (default: all cores)"
	@echo "make test      smoke build of the book, unit tests and notebooks (nbval), in one go"
	@echo "make notebooks execute the notebooks in place, after a change to their text"
	@echo "make neighbourhoods  N-body runs anew, for the surroundings of synthetic clusters (ten minutes)"
	@echo "make coverage  the unit tests again, counting which lines of src/ they run"
	@echo "make bench     how long each stage takes, beside the plain way; tables and plots in benchmarks/"
	@echo "                 BENCH=--full               also what takes many minutes"
	@echo "make attack    kills, damaged files, very many clusters: twenty minutes; table in benchmarks/"
	@echo "                 ATTACK=--share=0.1         a tenth of it"
	@echo "make lock      pin the packages of pyproject.toml anew (needs uv)"
	@echo "make clean     remove _build/ and results/, but for what is in git"
	@echo "                 PYTHON=python3.12          the Python that makes .venv (3.11 to 3.13)"

book: .venv/made
	@exec $(RUN) cluster_tools.cli book --profile "$(PROFILE)" $(if $(CORES),--cores $(CORES))

# Files of tests side by side; what the small book makes is read by tests/site, which has it made, and the notebooks.
test: .venv/made
	@exec env OMP_NUM_THREADS=1 $(RUN) pytest --nbval -n auto --dist loadfile --no-loadscope-reorder tests notebooks

# Ten minutes of N-body runs, whose particles stay in _build/nbody, and the libraries that the package ships. Another
# machine rounds otherwise, so new digests go beside them: commit both.
neighbourhoods: .venv/made
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --upgrade --target _build/nbody/packages pysco-nbody==1.0.9
	@exec env PYTHONPATH=_build/nbody/packages $(RUN) cluster_tools.universe.nbody

# Whoever runs it, notebooks are executed with the sample that the project ships.
notebooks: .venv/made
	@env -u CLUSTER_TOOLS_COMA_SAMPLE $(RUN) cluster_tools.cli book --profile smoke --keep-html
	@exec env -u CLUSTER_TOOLS_COMA_SAMPLE $(RUN) cluster_tools.cli notebooks

# How much of src/ the unit tests run, but for those that read the built pages; the notebooks' share comes on top.
coverage: .venv/made
	@mkdir -p _build/coverage && rm -f _build/coverage/data*
	@OMP_NUM_THREADS=1 $(RUN) coverage run -m pytest -q -n auto --dist loadfile --ignore tests/site tests
	@$(RUN) coverage combine --quiet && $(RUN) coverage report --skip-covered --fail-under 90

# One thread, so that processor time compares two ways of doing the same.
ONE_THREAD = $(foreach library,OMP OPENBLAS NUMBA,$(library)_NUM_THREADS=1) TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
bench: .venv/made
	@mkdir -p _build
	@env $(ONE_THREAD) $(RUN) pytest -o python_files='bench_*.py' -o python_functions='bench_*' benchmarks \
	  --benchmark-json=_build/bench.json --benchmark-columns=min,rounds $(BENCH)
	@exec .venv/bin/python benchmarks/report.py _build/bench.json

attack: .venv/made
	@exec env OMP_NUM_THREADS=1 PYTHONPATH=tests $(RUN) attack $(ATTACK)

# Made anew when the lock's content or the place of the checkout changes; the time of a file means
# nothing. The lock pins setuptools, so that installing the package builds without the network.
MADE_FROM = { pwd; cat requirements.lock pyproject.toml; }
.venv/made: FORCE
	@$(MADE_FROM) | cmp -s - $@ || { \
	  "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	    echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one that is: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
	  echo "making .venv from requirements.lock, once, in a few minutes" && \
	  rm -rf .venv && "$(PYTHON)" -m venv .venv && \
	  $(RUN) pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	  .venv/bin/python -c 'import os; from cluster_tools import machine, paths; \
	    os.environ.update(machine.private_home(paths.caches())); import matplotlib.font_manager' && \
	  $(MADE_FROM) > $@; }

.PHONY: FORCE
FORCE:

lock:
	uv pip compile --quiet $(LOCK_OPTIONS) --universal --generate-hashes --no-header --python-version 3.11 --extra book --extra test -o requirements.lock pyproject.toml

clean:
	rm -rf _build .snakemake
	find results -mindepth 1 -maxdepth 1 ! -name published.yml ! -name measured.json ! -name figure3.svg -exec rm -rf {} +
