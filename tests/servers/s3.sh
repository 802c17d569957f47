#!/usr/bin/env bash
# Runs a command beside S3 servers of its own, whose addresses are in DATOMFUSION_TEST_S3 (it believes
# everybody) and DATOMFUSION_TEST_S3_STRICT (it knows no key at all):
#
#     bash tests/servers/s3.sh cargo test … -- --ignored s3
#
# They listen on 127.0.0.1, keep what they are given in memory, and end with the command. They are moto, which is
# installed into a virtual environment in the cache if it is not there. If the variables are set, the servers that
# they name are used, and none is started; a machine that cannot have moto says DATOMFUSION_TEST_S3=skip.
set -euo pipefail

if [ "${DATOMFUSION_TEST_S3:-}" = skip ]; then
    echo "DATOMFUSION_TEST_S3 is skip: what needs an S3 server is left out" >&2
    exit 0
fi
if [ -n "${DATOMFUSION_TEST_S3:-}" ] && [ -n "${DATOMFUSION_TEST_S3_STRICT:-}" ]; then
    exec "$@"
fi

here="$(cd "$(dirname "$0")" && pwd)"
venv="${XDG_CACHE_HOME:-$HOME/.cache}/datomfusion-ci-moto"
python="$venv/bin/python"

works() { "$python" -c 'import flask_cors, moto; assert moto.__version__ == "5.2.5"' 2>/dev/null; }
if ! works; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null && command -v apt-get >/dev/null; then
        { "${root[@]}" apt-get update -q && "${root[@]}" apt-get install -q -y python3-venv; } >&2 || true
    fi
    { python3 -m venv --clear "$venv" &&
        "$python" -m pip install -q 'moto[s3]==5.2.5' flask flask-cors; } >&2 || true
fi
if ! works; then
    echo "moto cannot be installed: set DATOMFUSION_TEST_S3=skip to leave out what needs an S3 server" >&2
    exit 1
fi

folder="$(mktemp -d)"
pids=()
stop() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM

# Starts a server and waits until it has said where it listens, in `port`; at most two minutes.
start() {
    local log="$folder/$1.log"
    "$python" "$here/s3.py" >"$folder/$1" 2>"$log" &
    pids+=($!)
    for _ in $(seq 240); do
        if read -r port <"$folder/$1"; then
            return
        fi
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.5
    done
    cat "$log" >&2
    exit 1
}

start open
DATOMFUSION_TEST_S3="http://127.0.0.1:$port"
# From the first request on, keys are looked up.
export INITIAL_NO_AUTH_ACTION_COUNT=0
start strict
unset INITIAL_NO_AUTH_ACTION_COUNT
DATOMFUSION_TEST_S3_STRICT="http://127.0.0.1:$port"
export DATOMFUSION_TEST_S3 DATOMFUSION_TEST_S3_STRICT

"$@"
