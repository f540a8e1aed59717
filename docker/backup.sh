#!/usr/bin/env bash
# Copies all that cannot be computed again into a new folder, while the platform runs:
#
#   docker/backup.sh FOLDER
#
# It asks the compose stack. With PGHOST set it asks that PostgreSQL server (PGPORT, PGUSER, PGPASSWORD,
# FLTS_POSTGRES_DB, FLTS_MLFLOW_DB) and the S3 that FLTS' own variables name; it then needs pg_dump of the
# server's version or newer, and `python` with flts. Do not run `flts gc --apply` at the same time.
#
# What names something is copied before what it names. Objects are never changed once written, so whatever
# a copy names can still be copied afterwards: Dagster's events name everything, a pointer names an MLflow
# run and a model, MLflow names artifacts. What is written meanwhile is at worst copied without being named,
# and the next run takes it up. The other way round a restored pointer might lead nowhere.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath -m "$1")
part=$folder.part
for path in "$folder" "$part"; do
    [ ! -e "$path" ] || { echo "$path is there already: name another folder, or remove it" >&2; exit 1; }
done
. "$here/servers.sh"
umask 077
mkdir -p "$part/objects"

dump() { in_postgres pg_dump --format=custom --no-owner --dbname="$1" > "$part/$2.dump"; }

dump "$dagster" dagster
objects "$part/objects" save model-promotion
dump "$mlflow" mlflow
objects "$part/objects" save recipes models processed-data dataset mlflow inference-logs compute-logs
mv "$part" "$folder"
echo "complete: $folder ($(du -sh "$folder" | cut -f 1))"
