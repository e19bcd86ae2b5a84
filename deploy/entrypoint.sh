#!/bin/sh
# Runs one module. A secret that comes as a file becomes the setting that the program reads.
set -eu

if [ -n "${YAODA_PG_PASSWORD_FILE:-}" ]; then
    YAODA_PG_PASSWORD=$(cat "$YAODA_PG_PASSWORD_FILE")
    export YAODA_PG_PASSWORD
fi
# -P: nothing in the working folder can hide a package.
exec python -P -m "$@"
