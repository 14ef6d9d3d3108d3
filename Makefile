# The first call of any target sets up .venv; the next costs nothing. Another Python: make install PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNS ?= runs

# Some environments forbid bytecode files; without them every start compiles PyTorch anew, which takes seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo tour test slow long docs coverage golden bench-peers pairs mutants fuzz soak kills lint release tensorboard pictures curves results clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## set up .venv with everything that training, tests and linters need

demo: $(STAMP) ## solve CartPole with PPO, draw digits with a GAN, write two reports (3 minutes)
	@$(BIN)/python scripts/demo.py

tour: $(STAMP) ## what a gradient is and does, in ten pictures with measured numbers, on one page (1 minute)
	@$(BIN)/python scripts/tour.py

test: $(STAMP) ## run the tests, but for those that make slow runs (5 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

slow: $(STAMP) ## run the tests that train longer, kill runs, or need several processes or a browser (11 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'slow and not long'

long: $(STAMP) ## run the slowest of them: graphs of convolutions, a search that is killed, four ranks (5 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long

docs: $(STAMP) ## build the site into site/, open site/index.html (a minute)
	@$(BIN)/python docs/site/build.py

coverage: $(STAMP) ## which lines no test runs; fails below 90 % of all, 95 % of core (20 minutes)
	@rm -f .coverage .coverage.*
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	@$(BIN)/coverage report --fail-under=90
	@$(BIN)/coverage report --fail-under=95 --include='core/*' --format=total

golden: $(STAMP) ## the same numbers as revision AGAINST, to the bit? ONLY='ppo_*' for some (4 minutes)
	@$(BIN)/python -m tests.golden $(or $(AGAINST),HEAD) --only '$(or $(ONLY),*)'

pairs: $(STAMP) ## do options work together, and does each that is typed do something? (20 minutes)
	@$(BIN)/python -m tests.pairs

mutants: $(STAMP) ## do the tests notice small mistakes in the maths? ONLY='gradgan/*' for some (20 minutes)
	@$(BIN)/python -m tests.mutants --only '$(or $(ONLY),*)'

fuzz: $(STAMP) ## does everything odd that is typed or read end in one clear line? SECONDS=60 SEED=1 (15 minutes)
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),inf) --seed $(or $(SEED),0)

soak: $(STAMP) ## are runs that were killed and resumed those that nothing disturbed? (SECONDS=600, SEED=0)
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) --seed $(or $(SEED),0)

kills: $(STAMP) ## the same of torchrun's ranks and of sweeps in other processes, KILLS=100 SEED=0 (20 minutes)
	@$(BIN)/python -m tests.soak.processes --kills $(or $(KILLS),100) --seed $(or $(SEED),0)

bench-peers: $(STAMP) ## add the libraries that scripts/bench.py suite=rl compares with, beside what is there
	@VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/uv pip install -e '.[peers]'

lint: $(STAMP) ## style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

release: $(STAMP) ## build, check, install the wheel where nothing else is, and run it there (5 minutes, 5 GB for a while)
	@rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null && $(BIN)/twine check --strict dist/*
	@place=$$(mktemp -d) && trap 'rm -rf "$$place"' EXIT && wheel=$$(ls "$(CURDIR)"/dist/*.whl) \
		&& "$(abspath $(BIN))/uv" venv --quiet --python "$(abspath $(BIN))/python" "$$place/venv" \
		&& VIRTUAL_ENV="$$place/venv" "$(abspath $(BIN))/uv" pip install --quiet "$$wheel" \
		&& cd "$$place" && mkdir empty && cd empty \
		&& ../venv/bin/gradrl experiment=none total_steps=2048 hydra.run.dir=agent \
		&& ../venv/bin/gradgan data=ring total_images=8192 hydra.run.dir=gan \
		&& ../venv/bin/descend hydra.run.dir=descent && ../venv/bin/gradsight-report run=agent

tensorboard: $(STAMP) ## show all runs at http://localhost:6006/#custom_scalars
	@echo 'open http://localhost:6006/#custom_scalars'
	@$(BIN)/tensorboard --logdir $(RUNS) --port 6006

pictures: $(STAMP) ## make the pictures of the README and of docs/descend.md anew, with Chromium (3 minutes)
	@$(BIN)/python -m tests.pictures

curves: $(STAMP) ## train and draw the curves of docs/agents/ and docs/losses/ anew (20 minutes)
	@$(BIN)/python -m tests.page_curves

results: $(STAMP) ## write the tables of docs/results.md and docs/told.md anew from docs/results/, and draw the curves
	@$(BIN)/python -m scripts.suites.results
	@$(BIN)/python -m scripts.suites.told

clean: ## remove the virtual environment and caches; runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11 to 3.13 is needed, this is %d.%d; try: make install PYTHON=python3.12" % v[:2])'
	@echo "setting up $(VENV): about 7 GB and one to five minutes"
	@$(PYTHON) -m venv $(VENV) || { echo "python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/uv pip install -e '.[dev]'
	@touch $@
