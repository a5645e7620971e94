#!/bin/sh
# Builds the documentation site from docs/ and the pages beside it into $1 (site). What builds it, as requirements-docs.lock pins it,
# goes into .site, an environment of its own made by the uv of $2, so that the other commands do not carry it. A warning is an
# error: a link to a page or heading that does not exist, a page in no table of contents. Without a network once it is installed.
set -eu
cd "${0%/*}/.."
out=$1
uv=$2/bin/uv
lock=requirements-docs.lock

if ! cmp -s "$lock" .site/installed.lock; then
    "$uv" venv --quiet --clear --python "$2/bin/python" .site
    "$uv" pip install --quiet --no-deps --require-hashes --python .site/bin/python -r "$lock"
    "$uv" pip check --quiet --python .site/bin/python
    cp "$lock" .site/installed.lock
fi

.site/bin/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky \
    --conf-dir docs/site --doctree-dir .site/doctrees --builder html . "$out"
if foreign=$(grep -rnoE '(src=|<link[^>]* href=|url\(|@import )["'"'"'(]?https?://[^"'"'"') ]*' "$out" --include='*.html' --include='*.css'); then
    echo "The site would load from elsewhere:" >&2
    echo "$foreign" >&2
    exit 1
fi
echo "The site is $out/index.html"
