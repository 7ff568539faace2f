#!/bin/sh
# Locks and syncs a copy of this project, then shows what came. The copy keeps this folder clean.
# MIRROR: where your mirror is; it replaces the address in pyproject.toml.
set -eu
MIRROR=${MIRROR:-http://127.0.0.1:8080}
UV=${UV:-uv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed "s|http://127.0.0.1:8080|$MIRROR|" "$(dirname "$0")/pyproject.toml" > "$work/pyproject.toml"
cd "$work"

"$UV" lock --quiet
"$UV" sync --quiet --locked
"$UV" pip list
