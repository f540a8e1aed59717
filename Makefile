# Two commands on a fresh machine: `make demo` and `make test`. Each makes the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Most tests wait for processes they started: two at once. A file's tests stay together.
TOGETHER := -n 2 --dist loadfile

.PHONY: demo dev test integration lint setup setup-dev clean

demo: setup ## From raw CSVs to a promoted model. DATA=folder uses your own STATION.csv, STATION_test.csv
	$(BIN)/flts demo $(if $(DATA),--data "$(DATA)")

dev: setup ## The web UI on the same state; PORT=3000
	$(BIN)/flts dev $(if $(PORT),--port $(PORT))

test: setup-dev
	$(BIN)/python -m pytest $(TOGETHER) -m "not integration"

integration: setup-dev ## Whole deployments: S3, PostgreSQL, MLflow server, browser, killed processes
	# In the order of their names: the one that takes longest is alone in its file and would come last.
	$(BIN)/python -m pytest $(TOGETHER) --no-loadscope-reorder -m integration

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/installed .env

setup-dev: $(VENV)/installed-dev .env

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py | $(BIN)/python
	@echo "Installing FLTS and what it needs into $(VENV): a few minutes"
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed

# `dagster dev` and the other Dagster commands read it from here.
.env: $(wildcard $(VENV)/installed*)
	$(BIN)/flts env > $@.new && mv $@.new $@
	$(BIN)/flts doctor

clean:
	rm -rf $(VENV) .env .flts build dist *.egg-info
