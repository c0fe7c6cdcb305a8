#!/bin/sh
# Start Debian's PostgreSQL on loopback for the tests, and print its URL:
#
#     FER_TEST_POSTGRES_URL=$(tests/start_postgres.sh) FER_REQUIRE_POSTGRES=1 make test
#
# Installs the package where it is missing (root only). May be run again: what is there is used.
# Everything but the URL goes to standard error.
set -eu
exec 3>&1 1>&2

if ! command -v pg_lsclusters >/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q postgresql
fi
set -- $(pg_lsclusters --no-header | head -n 1)
if [ $# -lt 4 ]; then
    version=$(ls /usr/lib/postgresql | sort -n | tail -n 1)
    pg_createcluster "$version" main
    set -- $(pg_lsclusters --no-header | head -n 1)
fi
version=$1 cluster=$2 port=$3

# Only this machine may connect, whatever the package's default is or becomes. Nothing in it has
# to last: without waiting for the disk the tests are several times as fast.
pg_conftool "$version" "$cluster" set listen_addresses localhost
pg_conftool "$version" "$cluster" set fsync off
pg_conftool "$version" "$cluster" set synchronous_commit off
pg_conftool "$version" "$cluster" set full_page_writes off
pg_conftool "$version" "$cluster" set max_connections 200
if [ "${4%%,*}" = online ]; then
    # The server must not hold the pipe that the URL goes into.
    pg_ctlcluster "$version" "$cluster" restart 3>&-
else
    pg_ctlcluster "$version" "$cluster" start 3>&-
fi
until pg_isready -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done

as_postgres() { runuser -u postgres -- psql -q -p "$port" -v ON_ERROR_STOP=1 "$@"; }
password=$(head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n')
if [ "$(as_postgres -Atc "SELECT 1 FROM pg_roles WHERE rolname = 'fer_test'")" != 1 ]; then
    as_postgres -c "CREATE ROLE fer_test LOGIN CREATEDB"
fi
as_postgres -c "ALTER ROLE fer_test PASSWORD '$password'"
if [ "$(as_postgres -Atc "SELECT 1 FROM pg_database WHERE datname = 'fer_test'")" != 1 ]; then
    as_postgres -c "CREATE DATABASE fer_test OWNER fer_test"
fi
echo "postgresql://fer_test:$password@127.0.0.1:$port/fer_test" >&3
