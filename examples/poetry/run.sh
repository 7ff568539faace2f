#!/bin/sh
# Locks and installs a copy of this project, then shows what came. The copy keeps this folder clean.
# MIRROR: where your mirror is; it replaces the address in pyproject.toml.
set -eu
MIRROR=${MIRROR:-http://127.0.0.1:8080}
POETRY=${POETRY:-poetry}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed "s|http://127.0.0.1:8080|$MIRROR|" "$(dirname "$0")/pyproject.toml" > "$work/pyproject.toml"
cd "$work"
export POETRY_VIRTUALENVS_IN_PROJECT=true POETRY_CACHE_DIR="$work/cache"

"$POETRY" lock --quiet
"$POETRY" install --quiet
"$POETRY" show
