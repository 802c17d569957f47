#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, whose address is in DATOMFUSION_TEST_POSTGRES:
#
#     bash tests/servers/postgres.sh cargo test … -- --ignored postgres
#
# The server listens on 127.0.0.1, keeps its data in a temporary folder, and ends with the command. If the
# variable is set, the server that it names is used, and none is started; a machine that cannot have PostgreSQL
# says DATOMFUSION_TEST_POSTGRES=skip.
set -euo pipefail

if [ "${DATOMFUSION_TEST_POSTGRES:-}" = skip ]; then
    echo "DATOMFUSION_TEST_POSTGRES is skip: what needs PostgreSQL is left out" >&2
    exit 0
fi
if [ -n "${DATOMFUSION_TEST_POSTGRES:-}" ]; then
    exec "$@"
fi

binaries() {
    local found
    found="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)"
    if [ -z "$found" ] && found="$(command -v initdb)"; then
        found="$(dirname "$(readlink -f "$found")")"
    fi
    echo "$found"
}

bin="$(binaries)"
if [ -z "$bin" ] && command -v apt-get >/dev/null; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    { "${root[@]}" apt-get update -q && "${root[@]}" apt-get install -q -y postgresql; } >&2 || true
    bin="$(binaries)"
fi
if [ -z "$bin" ]; then
    echo "PostgreSQL cannot be installed: set DATOMFUSION_TEST_POSTGRES=skip to leave out what needs it" >&2
    exit 1
fi

folder="$(mktemp -d)"
# The server refuses to run as root.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && su postgres -s /bin/bash -c "$(printf '%q ' "$@")")
    else
        "$@"
    fi
}
stop() {
    if [ -e "$folder/data/postmaster.pid" ]; then
        as_server "$bin/pg_ctl" -D "$folder/data" -m fast -w stop >&2 || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM

# Some containers let nobody but root write there, and initdb does.
as_server test -w /dev/null || chmod 666 /dev/null

password="$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
echo "$password" >"$folder/password"
[ "$(id -u)" != 0 ] || chown -R postgres "$folder"
as_server "$bin/initdb" -D "$folder/data" -U postgres -A scram-sha-256 --pwfile="$folder/password" \
    -E UTF8 --locale=C >&2

start() {
    as_server "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 \
        -o "-p $1 -c listen_addresses=127.0.0.1 -k $folder" start >&2
}
port=0
for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 10000))
    start "$port" && break
    port=0
done
if [ "$port" = 0 ]; then
    cat "$folder/log" >&2
    exit 1
fi

DATOMFUSION_TEST_POSTGRES="postgres://postgres:$password@127.0.0.1:$port/postgres" "$@"
