#!/usr/bin/env bash
# Brings back what docker/backup.sh copied, into new and empty servers:
#
#   docker/restore.sh FOLDER
#
# With compose it starts object-store and postgres alone, and everything else comes with `up` afterwards.
# Elsewhere (PGHOST is set, see backup.sh) both servers run, both databases exist, empty, with their owners
# (docker/postgres-init.sh makes them), and nothing else of the platform runs.
#
# The other way round than the backup: nothing ever stands there that names what is not there yet.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath "$1")
for part in dagster.dump mlflow.dump objects; do
    [ -e "$folder/$part" ] || { echo "$folder is no complete backup: it has no $part" >&2; exit 1; }
done
. "$here/servers.sh"

ask() { in_postgres psql --no-psqlrc --tuples-only --no-align --dbname="$1" --command="$2"; }

# Before anything is written: what began to restore cannot be repeated over itself.
must_be_empty() {
    table=$(ask "$1" "SELECT tablename FROM pg_tables WHERE schemaname = 'public' LIMIT 1")
    [ -z "$table" ] || { echo "the database $1 is not empty (table $table): restore into a new deployment" >&2; exit 1; }
}

# As the database's owner, whoever that is here; all or nothing. Nobody else's rights: who had them, such as
# a dashboard's reader, is not in the backup.
restore() {
    owner=$(ask "$1" "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
    in_postgres pg_restore --single-transaction --exit-on-error --no-owner --no-privileges --role="$owner" \
        --dbname="$1" < "$folder/$2.dump"
}

start_servers
must_be_empty "$mlflow"
must_be_empty "$dagster"
objects "$folder/objects" load recipes models processed-data dataset mlflow inference-logs compute-logs
restore "$mlflow" mlflow
objects "$folder/objects" load model-promotion
restore "$dagster" dagster
echo "restored: $folder"
