#!/bin/sh
# A private index through the mirror: the first fetch sends your credentials on, the copy stays yours.
# Without REGISTRY it starts registry.py, a stand-in on 127.0.0.1. The mirror refuses private networks unless told:
#   httpcache serve --allow-network 127.0.0.0/8
# With a real one, for example GitLab:
#   REGISTRY=https://gitlab.example.com/api/v4/projects/42/packages/pypi/simple REGISTRY_USER=__token__ \
#   REGISTRY_TOKEN=... PACKAGE=my-package ./run.sh
set -eu
MIRROR=${MIRROR:-http://127.0.0.1:8080}
PIN=${PIN:-acme-$(date -u +%Y-%m-%d)}
DATE=${DATE:-$(date -u +%Y-%m-%d)}
PIP=${PIP:-python3 -m pip}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${server:-}" ] || kill "$server"' EXIT

if [ -z "${REGISTRY:-}" ]; then
    python3 "$here/registry.py" "${PORT:-8399}" &
    server=$!
    sleep 1
    REGISTRY=http://127.0.0.1:${PORT:-8399}/simple REGISTRY_USER=builder REGISTRY_TOKEN=example-token PACKAGE=acme-tool
fi
page=$MIRROR/$PIN/$REGISTRY/$PACKAGE/
status() { curl -sS -o /dev/null -w '%{http_code}' "$@"; }

echo "without credentials:        $(status "$page")"
echo "with user and token:        $(status -u "$REGISTRY_USER:$REGISTRY_TOKEN" "$page")"
echo "with a header token:        $(status -H "Private-Token: $REGISTRY_TOKEN" "$page")"
echo "the frozen copy, no token:  $(status "$page")"

# pip sends the user and token of a host to every index on that host. The mirror holds them back until the registry
# asks for them, so PyPI never sees them.
scheme=${MIRROR%%://*} host=${MIRROR#*://}
$PIP install --quiet --no-cache-dir --target "$work/site" \
    --index-url "$MIRROR/$DATE/" \
    --extra-index-url "$scheme://$REGISTRY_USER:$REGISTRY_TOKEN@$host/$PIN/$REGISTRY/" "$PACKAGE"
ls "$work/site"
