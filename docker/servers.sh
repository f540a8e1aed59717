# Read by backup.sh and restore.sh: how PostgreSQL and the objects are reached. Expects `here`.
dagster=${FLTS_POSTGRES_DB:-dagster}
mlflow=${FLTS_MLFLOW_DB:-mlflow}

if [ -n "${PGHOST:-}" ]; then
    start_servers() { :; }
    in_postgres() { "$@"; }
    objects() { # FOLDER ACTION BUCKET …
        local at=$1 action=$2
        shift 2
        "${PYTHON:-python}" "$here/objects.py" "$action" "$at" "$@"
    }
else
    compose=(docker compose --file "$here/docker-compose.yaml")
    start_servers() { "${compose[@]}" up --detach --wait object-store postgres; }
    in_postgres() { "${compose[@]}" exec -T --env PGUSER=postgres postgres "$@"; }
    objects() {
        local at=$1 action=$2
        shift 2
        # As who asks: the folder is theirs.
        "${compose[@]}" run --rm --no-deps -T --user "$(id -u):$(id -g)" --volume "$at:/backup" code-server \
            python docker/objects.py "$action" /backup "$@" < /dev/null
    }
fi
