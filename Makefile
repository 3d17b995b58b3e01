# Every target makes .venv by itself; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast chaos lint bench fuzz audit clean

demo: .venv/installed
	$(BIN)/python -m jobs.demo

# by two processes: a third of the time goes to starting Rays and waiting for what was killed
test: .venv/installed-test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# for the edit loop, under three minutes: no Ray, no S3 server, nothing slow
test-fast: .venv/installed-test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not (ray or cluster or s3 or slow or chaos)"

# kills workers, a node, the S3 server and the job at random: ten minutes
chaos: .venv/installed-test
	$(BIN)/python -m pytest -m chaos

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# what reading and querying cost on this machine
bench: .venv/installed-test
	$(BIN)/python -m jobs.benchmark
	$(BIN)/python -m tests.bench.decode
	$(BIN)/python -m tests.bench.tables
	$(BIN)/python -m tests.bench.report

# open-ended: SECONDS=600 by default
fuzz: .venv/installed-test
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600)

# known holes in the packages of the image; asks the internet
audit: .venv/bin/python
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --requirement infra/constraints.txt --no-deps --disable-pip

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'bae needs Python 3.11 or newer')"
	$(PYTHON) -m venv .venv

# the stamps are written last, so an interrupted installation is taken up again
.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch .venv/installed $@

clean:
	rm -rf demo-data
