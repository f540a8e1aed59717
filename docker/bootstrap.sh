#!/bin/sh
# From an empty deployment to a promoted model: the measured files in /dataset, or a generated station.
set -eu
flts doctor
if ls /dataset/*_test.csv > /dev/null 2>&1; then
    exec flts demo --data /dataset
fi
exec flts demo
