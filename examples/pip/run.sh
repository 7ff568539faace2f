#!/bin/sh
# Installs what requirements.txt gave on a day of 2023, now and whenever it is run again.
# The index is PyPI as it stood at 00:00:00 UTC of DATE. Change DATE to move on; nothing else changes by itself.
# The report shows the versions and the sha256 that pip checked.
set -eu
MIRROR=${MIRROR:-http://127.0.0.1:8080}
DATE=${DATE:-2023-11-18}
PIP=${PIP:-python3 -m pip}
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$PIP install --quiet --no-cache-dir --target "$work/site" --report "$work/report.json" \
    --index-url "$MIRROR/$DATE/" -r requirements.txt
python3 - "$work/report.json" <<'PY'
import json, sys
for item in json.load(open(sys.argv[1]))["install"]:
    print(item["metadata"]["name"], item["metadata"]["version"], item["download_info"]["archive_info"]["hash"])
PY
