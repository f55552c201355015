# make demo: set up, then the whole chain on embedded data.  make test: set up, then every test.  make lint: style.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
REQUIREMENTS := requirements.txt requirements-dev.txt requirements-demo.txt requirements-ray.txt

.PHONY: setup demo test lint clean

setup: $(STAMP)

# gan-face-generate carries the demo's generator; its own dependencies (wandb, …) serve its training only.
$(STAMP): $(REQUIREMENTS)
	$(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv venv --quiet --clear --python $(PYTHON) $(VENV)
	$(PYTHON) -m uv pip install --quiet --compile-bytecode --python $(RUN) -r requirements.txt -r requirements-dev.txt -r requirements-ray.txt
	$(PYTHON) -m uv pip install --quiet --python $(RUN) --no-deps -r requirements-demo.txt
	touch $(STAMP)

demo: setup
	$(RUN) demo.py $(DEMO_ARGS)

test: setup
	$(RUN) -m pytest $(PYTEST_ARGS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV) runs .cache
