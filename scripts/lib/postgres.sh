# A private PostgreSQL for tests: its own port, its own temporary directory, ended with the script. Read after tools.sh.

postgres_bin=
postgres_data=
postgres_pid=

# Runs a program as the user that PostgreSQL may run as: it refuses root.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

# The newest PostgreSQL that is installed; installs Debian's if there is none. Sets postgres_bin.
need_postgres() {
    find_postgres
    if [ -z "$postgres_bin" ]; then
        install_packages postgresql
        find_postgres
    fi
    [ -n "$postgres_bin" ] || fail "PostgreSQL was installed and is not in /usr/lib/postgresql"
}

find_postgres() {
    postgres_bin=$(for bin in /usr/lib/postgresql/*/bin; do
        if [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then printf '%s\n' "$bin"; fi
    done | sort -V | tail -n 1)
}

# Starts it and exports SWITCHBOARD_TEST_POSTGRES (a superuser's URL) and SWITCHBOARD_TEST_POSTGRES_BIN.
start_postgres() {
    local port password deadline
    postgres_data=$(mktemp -d "${TMPDIR:-/tmp}/switchboard-postgres.XXXXXX")
    password=$(head -c 18 /dev/urandom | base64 | tr '+/' 'ab')
    printf '%s' "$password" >"$postgres_data/password"
    [ "$(id -u)" -ne 0 ] || chown -R postgres "$postgres_data"
    as_postgres "$postgres_bin/initdb" --pgdata="$postgres_data/data" --username=switchboard_test --encoding=UTF8 --locale=C \
        --auth=scram-sha-256 --pwfile="$postgres_data/password" >"$postgres_data/log" 2>&1 ||
        { cat "$postgres_data/log" >&2; fail "initdb failed"; }
    port=$(free_port)
    as_postgres "$postgres_bin/postgres" -D "$postgres_data/data" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c max_connections=200 -c fsync=on >>"$postgres_data/log" 2>&1 &
    postgres_pid=$!
    deadline=$((SECONDS + 30))
    until "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do
        if ! kill -0 "$postgres_pid" 2>/dev/null || [ "$SECONDS" -gt "$deadline" ]; then
            cat "$postgres_data/log" >&2
            fail "PostgreSQL did not start"
        fi
        sleep 0.2
    done
    export SWITCHBOARD_TEST_POSTGRES="postgres://switchboard_test:$password@127.0.0.1:$port/postgres"
    export SWITCHBOARD_TEST_POSTGRES_BIN="$postgres_bin"
}

# Ends it, whether or not it runs. runuser passes the signal on; INT is PostgreSQL's fast shutdown.
stop_postgres() {
    if [ -n "$postgres_pid" ]; then
        local server
        server=$(head -n 1 "$postgres_data/data/postmaster.pid" 2>/dev/null || true)
        kill -INT "${server:-$postgres_pid}" 2>/dev/null || true
        wait "$postgres_pid" 2>/dev/null || true
        postgres_pid=
    fi
    if [ -n "$postgres_data" ]; then
        rm -rf "${postgres_data:?}"
        postgres_data=
    fi
}

# A port that nobody listens on now.
free_port() {
    node -e 'const s = require("net").createServer(); s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'
}
