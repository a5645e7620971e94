#!/bin/sh
# Builds the dashboard, app/web/dist, from app/web; nothing is done when nothing changed. Needs npm and Node.js 20.19 or newer.
#   web.sh build  ends with an error when it cannot
#   web.sh try    says in one line why it cannot, and ends well: the node runs without its dashboard
#   web.sh check  checks the types, where there is npm
set -eu
cd "${0%/*}/../app/web" 2>/dev/null || exit 0 # a clone without it, as in a test of set-up
mode=$1
node_min="20.19"
log=node_modules.log
failed=node_modules.failed # what set-up could not fetch: it does not wait for a network again that is not there

give_up() {
    if [ "$mode" = build ]; then
        echo "$1" >&2
        exit 1
    fi
    echo "  $2: $1" >&2
    exit 0
}

digest() { # of files $@, their names included
    cat "$@" | cksum
    printf '%s\n' "$@" | cksum
}

sources() {
    find src index.html package.json package-lock.json tsconfig.json vite.config.ts .npmrc -type f | LC_ALL=C sort
}

without="The dashboard is not built"
[ "$mode" = check ] && without="The dashboard's types are not checked"
built=$(digest $(sources))
if [ "$mode" != check ] && [ "$(cat dist/.stamp 2>/dev/null || true)" = "$built" ]; then
    exit 0
fi

command -v npm >/dev/null && command -v node >/dev/null ||
    give_up "it needs npm, on Debian 13 and newer: apt-get install npm; then call make web." "$without"
node -e 'const [a, b] = process.versions.node.split(".").map(Number), [c, d] = process.argv[1].split(".").map(Number);
    process.exit(a > c || (a === c && b >= d) ? 0 : 1)' "$node_min" ||
    give_up "it needs Node.js $node_min or newer, and this is $(node --version); then call make web." "$without"

# two makes at a time: the second waits, and finds what the first has made
if command -v flock >/dev/null && [ -z "${KLINENODE_WEB_LOCKED:-}" ]; then
    KLINENODE_WEB_LOCKED=1 exec flock .lock sh ../../deploy/web.sh "$mode"
fi

installed=$(digest package-lock.json package.json .npmrc)
if [ "$(cat node_modules/.stamp 2>/dev/null || true)" != "$installed" ]; then
    [ "$mode" = build ] || [ "$(cat "$failed" 2>/dev/null || true)" != "$installed" ] ||
        give_up "npm could not fetch what builds it when it last tried; call make web when it can." "$without"
    echo "  fetching what builds the dashboard" >&2
    if ! npm ci --no-progress --fetch-retries=1 >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        echo "$installed" >"$failed"
        give_up "npm could not fetch what builds it; what it said is above. Call make web when it can." "$without"
    fi
    rm -f "$log" "$failed"
    echo "$installed" >node_modules/.stamp
fi

if [ "$mode" = check ]; then
    exec npm run --silent check
fi
echo "  building the dashboard" >&2
if ! npm run --silent build >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    give_up "it does not build; what was said is above." "$without"
fi
rm -f "$log"
echo "$built" >dist/.stamp
