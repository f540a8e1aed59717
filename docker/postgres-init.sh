#!/bin/sh
# Run once, by the postgres image, on an empty volume: a database and its owner for Dagster, and for MLflow.
set -eu
for name in dagster mlflow; do
    case $name in
        dagster) password=$DAGSTER_PASSWORD ;;
        mlflow) password=$MLFLOW_PASSWORD ;;
    esac
    printf '%s\n' \
        "CREATE ROLE :name LOGIN PASSWORD :'password';" \
        "CREATE DATABASE :name OWNER :name;" \
        "REVOKE ALL ON DATABASE :name FROM PUBLIC;" |
        psql --no-psqlrc --username "${POSTGRES_USER:-postgres}" --dbname postgres \
            --set ON_ERROR_STOP=1 --set name="$name" --set password="$password"
done
