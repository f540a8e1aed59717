#!/usr/bin/env bash
# Brings the whole stack up beside any that runs, proves it, and takes it down with its volumes:
#
#   docker/smoke.sh          builds the images first (a quarter of an hour where nothing is cached)
#   docker/smoke.sh --built  takes the images flts-platform:local and flts-serving:local as they are
#
# It trains on 400 generated rows; SMOKE_TRAIN_ROWS and SMOKE_TEST_ROWS ask for more, 0 for all.
# Needs docker with compose v2, curl and python3. Exit code 0: all of it holds.
set -euo pipefail
cd "$(dirname "$0")"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
secret() { python3 -c 'import secrets; print(secrets.token_hex(24))'; }
field() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda found, key: found[int(key) if key.isdigit() else key], sys.argv[1:], json.load(sys.stdin)))' "$@"; }
say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }

folder=$(mktemp -d)
serving=$(free_port) dagster=$(free_port) mlflow=$(free_port) token=$(secret)
mkdir "$folder/dataset" && chmod 755 "$folder" "$folder/dataset"
sed '/^FLTS_.*=$/d; /^SAMPLE_.*_ROWS=/d' .env.example > "$folder/env"
cat >> "$folder/env" << EOF
SAMPLE_TRAIN_ROWS=${SMOKE_TRAIN_ROWS:-400}
SAMPLE_TEST_ROWS=${SMOKE_TEST_ROWS:-200}
FLTS_S3_ACCESS_KEY=$(secret)
FLTS_S3_SECRET_KEY=$(secret)
FLTS_POSTGRES_ADMIN_PASSWORD=$(secret)
FLTS_POSTGRES_PASSWORD=$(secret)
FLTS_MLFLOW_DB_PASSWORD=$(secret)
FLTS_SERVING_TOKEN=$token
FLTS_SERVING_PORT=$serving
FLTS_DAGSTER_PORT=$dagster
FLTS_MLFLOW_PORT=$mlflow
FLTS_DATASET=$folder/dataset
EOF
stack() { docker compose --project-name flts-smoke --env-file "$folder/env" "$@"; }
finish() {
    code=$?
    trap - EXIT
    if [ $code -ne 0 ]; then
        stack ps --all || true
        stack logs --tail 60 || true
    fi
    stack down --volumes --remove-orphans --timeout 20 > /dev/null 2>&1 || true
    rm -rf "$folder"
    exit $code
}
trap finish EXIT

# --- what is checked ---------------------------------------------------------------------------------
first_run() {
    stack up --detach --quiet-pull > "$folder/up.log" 2>&1 || { cat "$folder/up.log"; fail "docker compose up"; }
    say "up: each service started when what it needs was healthy"
    code=$(docker wait "$(stack ps --all --quiet bootstrap)")
    stack logs --no-log-prefix bootstrap > "$folder/bootstrap.log"
    [ "$code" = 0 ] || { cat "$folder/bootstrap.log"; fail "bootstrap ended with exit code $code"; }
    say "bootstrap: $(grep -m 1 -i pointer "$folder/bootstrap.log" || tail -n 1 "$folder/bootstrap.log")"
}

ready() {
    for _ in $(seq 120); do
        status=$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$serving/readyz" || true)
        [ "$status" = 200 ] && return 0
        sleep 0.5
    done
    fail "the service has no champion: /readyz says $status"
}

forecast() { # the status alone
    curl --silent --max-time 10 --output "$folder/forecast.csv" --write-out '%{http_code}' \
        --header "authorization: Bearer ${1:-$token}" --header 'content-type: text/csv' \
        --data-binary "@$folder/rows.csv" "http://127.0.0.1:$serving/predict/file?inference_length=30" || true
}

forecasts() {
    station=$(curl --silent --fail "http://127.0.0.1:$serving/model" --header "authorization: Bearer $token" | field station)
    curl --silent --fail --header "authorization: Bearer $token" --output "$folder/test.csv" \
        "http://127.0.0.1:$serving/download/dataset/${station}_test.csv"
    head -n 201 "$folder/test.csv" > "$folder/rows.csv"
    [ "$(forecast)" = 200 ] || fail "no forecast: $(cat "$folder/forecast.csv")"
    [ "$(wc -l < "$folder/forecast.csv")" -ge 30 ] || fail "too few forecasts"
    [ "$(forecast wrong)" = 401 ] || fail "a wrong token is answered"
    say "forecasts of $station through the proxy: 30 steps; a wrong token is refused"
}

replica_dies() {
    read -r victim <<< "$(stack ps --quiet serving)"
    (sleep 0.5 && docker kill "$victim" > /dev/null) &
    refused=0
    for _ in $(seq 200); do [ "$(forecast)" = 200 ] || refused=$((refused + 1)); done
    wait $!
    [ "$refused" = 0 ] || fail "$refused of 200 forecasts failed while a replica was killed"
    say "a replica is killed under 200 requests: none failed"
    stack up --detach --no-deps serving > /dev/null 2>&1
}

graphql() {
    curl --silent --fail "http://127.0.0.1:$dagster/graphql" --header 'content-type: application/json' --data "$1"
}

run_in_code_server() {
    hash=$(curl --silent --fail "http://127.0.0.1:$serving/model" --header "authorization: Bearer $token" | field champion config_hash)
    started=$(graphql "{\"query\": \"mutation(\$hash: String!) { launchRun(executionParams: {selector: {repositoryLocationName: \\\"flts_assets\\\", repositoryName: \\\"__repository__\\\", jobName: \\\"pipeline\\\"}, executionMetadata: {tags: [{key: \\\"dagster/partition\\\", value: \$hash}]}}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }\", \"variables\": {\"hash\": \"$hash\"}}")
    run=$(field data launchRun run runId <<< "$started") || fail "launchRun: $started"
    for _ in $(seq 240); do
        status=$(graphql "{\"query\": \"{ runOrError(runId: \\\"$run\\\") { ... on Run { status } } }\"}" | field data runOrError status)
        case $status in
            SUCCESS)
                say "a run through web UI, queue and code server: $status"
                return 0
                ;;
            FAILURE | CANCELED) fail "run $run: $status" ;;
        esac
        sleep 1
    done
    fail "run $run is still $status"
}

tracked() {
    experiments=$(curl --silent --fail "http://127.0.0.1:$mlflow/api/2.0/mlflow/experiments/search" \
        --header 'content-type: application/json' --data '{"max_results": 50}')
    runs=$(curl --silent --fail "http://127.0.0.1:$mlflow/api/2.0/mlflow/runs/search" --header 'content-type: application/json' \
        --data "{\"max_results\": 100, \"experiment_ids\": $(python3 -c 'import json, sys; print(json.dumps([one["experiment_id"] for one in json.load(sys.stdin)["experiments"]]))' <<< "$experiments")}")
    python3 -c 'import collections, json, sys; print(dict(collections.Counter(one["info"]["status"] for one in json.load(sys.stdin)["runs"])))' <<< "$runs" > "$folder/runs"
    grep -q FINISHED "$folder/runs" || fail "MLflow knows no finished run: $(cat "$folder/runs")"
    grep -q RUNNING "$folder/runs" && fail "MLflow has runs RUNNING: $(cat "$folder/runs")"
    say "MLflow's runs: $(cat "$folder/runs")"
}

loopback_alone() {
    open=$(stack ps --quiet | xargs docker inspect --format '{{range $port, $bound := .NetworkSettings.Ports}}{{range $bound}}{{.HostIp}} {{end}}{{end}}' | tr ' ' '\n' | sort -u | grep -v '^$' || true)
    [ "$open" = 127.0.0.1 ] || fail "published on: $open"
    say "published on 127.0.0.1 alone"
}

again() {
    stack down --timeout 30 > /dev/null 2>&1
    stack up --detach > "$folder/up.log" 2>&1 || { cat "$folder/up.log"; fail "docker compose up again"; }
    ready
    [ "$(forecast)" = 200 ] || fail "no forecast after the restart"
    say "down and up again: the same champion serves"
}

docker compose --project-name flts-smoke --env-file .env.example config > /dev/null 2>&1 && fail "it starts without secrets"
say "nothing starts without secrets"
[ "${1:-}" = --built ] || stack build
for image in platform serving; do
    size=$(($(docker image inspect --format '{{.Size}}' "flts-$image:local") / 1000000))
    say "image flts-$image: $size MB"
    [ $image = platform ] || [ $size -lt 600 ] || fail "the serving image has grown beyond 600 MB"
done
first_run
ready
forecasts
replica_dies
run_in_code_server
tracked
loopback_alone
again
say "all of it holds"
