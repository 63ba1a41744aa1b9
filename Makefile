# Each target sets up all that it needs: a virtual environment, then the package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := OMP_WAIT_POLICY=PASSIVE $(BIN)/python

.PHONY: demo guide test check bench bench-faults bench-memory bench-prepare chaos crashes compat notebooks docs recipes \
	ranks sky space supervised clean

demo: $(VENV)/.demo
	$(RUN) -m examples.demo

guide: $(VENV)/.dev
	$(RUN) -m examples.guide

test: $(VENV)/.dev
	$(RUN) -m pytest -q -n 2 --dist worksteal -m "not gpu and not slow"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	@$(RUN) bench/lengths.py

chaos: $(VENV)/.dev ranks
	$(RUN) -m pytest -q -n 2 --dist worksteal -m slow
	$(RUN) bench/chaos.py

# As root: two of its rows are two hosts, which are network namespaces.
ranks: $(VENV)/.dev
	$(RUN) -m bench.ranks

crashes: $(VENV)/.dev
	$(RUN) -m bench.crashes --report bench/crashes_cpu_$$(date +%F).md

compat: $(VENV)/.dev
	$(RUN) bench/compat.py

sky: $(VENV)/.dev
	$(RUN) bench/sky.py

supervised: $(VENV)/.dev
	$(RUN) -m bench.supervised

notebooks: $(VENV)/.dev
	$(RUN) -m bench.notebooks

bench: $(VENV)/.dev
	$(RUN) bench/speed.py
	$(RUN) bench/saves.py
	$(RUN) bench/stall.py
	$(RUN) bench/uplink.py

bench-faults: $(VENV)/.dev
	$(RUN) bench/faults.py

bench-prepare: $(VENV)/.dev
	$(RUN) -m bench.prepare

bench-memory: $(VENV)/.dev
	$(RUN) bench/memory.py

docs: $(VENV)/.dev
	$(RUN) docs/generate.py
	$(RUN) docs/scale.py

recipes: $(VENV)/.dev
	$(RUN) docs/recipes.py

# As root: it installs buildah and debootstrap, and unpacks an image.
space: $(VENV)/.dev
	$(RUN) -m bench.space --report bench/space_$(shell date +%F).md

# The stamp files hold what was installed, so a changed pyproject.toml installs again.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.demo: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,s3,dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache
