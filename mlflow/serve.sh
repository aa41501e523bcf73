#!/usr/bin/env bash
# An MLflow tracking server on one machine: Postgres, an artifact folder, users with passwords. See README.md.
set -euo pipefail

fail() {
    echo "serve.sh: $*" >&2
    exit 2
}

[[ $# -eq 0 ]] || fail "takes no arguments; it is set up by environment variables, see README.md"
command -v mlflow >/dev/null || fail "no mlflow here; pip install 'mlflow[auth]>=3.17,<4' psycopg2-binary"

[[ -n ${MLFLOW_BACKEND_STORE_URI:-} ]] ||
    fail "set MLFLOW_BACKEND_STORE_URI to postgresql+psycopg2://USER@HOST:5432/DATABASE, its password in PGPASSWORD"
[[ $MLFLOW_BACKEND_STORE_URI == postgresql* ]] ||
    fail "MLFLOW_BACKEND_STORE_URI is not a Postgres database; expected postgresql+psycopg2://USER@HOST:5432/DATABASE"
[[ -n ${MLFLOW_AUTH_ADMIN_PASSWORD:-} ]] ||
    fail "set MLFLOW_AUTH_ADMIN_PASSWORD to the password of the user admin, 12 characters or more"
[[ -n ${MLFLOW_FLASK_SERVER_SECRET_KEY:-} ]] ||
    fail "set MLFLOW_FLASK_SERVER_SECRET_KEY to a fixed random text, such as one from: openssl rand -hex 32"
((${#MLFLOW_AUTH_ADMIN_PASSWORD} >= 12)) || fail "MLFLOW_AUTH_ADMIN_PASSWORD has fewer than 12 characters"

host=${MLFLOW_HOST:-127.0.0.1}
port=${MLFLOW_PORT:-5000}
state=${MLFLOW_STATE:-$PWD/mlflow-state}
[[ $port =~ ^[0-9]+$ ]] || fail "MLFLOW_PORT is $port; expected a number"

# By these names alone it answers, and web pages of these origins alone may call it.
hosts=${MLFLOW_SERVER_ALLOWED_HOSTS:-localhost,localhost:$port,127.0.0.1,127.0.0.1:$port}
origins=${MLFLOW_SERVER_CORS_ALLOWED_ORIGINS:-http://localhost:$port,http://127.0.0.1:$port}

umask 077
mkdir -p "$state/artifacts" || fail "cannot make the folder $state; set MLFLOW_STATE to one that can be written"
state=$(cd "$state" && pwd)

# Users and permissions lie in the same database as the runs, so that one backup has both.
cat >"$state/basic_auth.ini" <<INI
[mlflow]
default_permission = ${MLFLOW_DEFAULT_PERMISSION:-READ}
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI

export MLFLOW_BACKEND_STORE_URI # read by mlflow from here, so that no password shows in the list of processes
export MLFLOW_AUTH_CONFIG_PATH="$state/basic_auth.ini" MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
unset MLFLOW_TRACKING_URI MLFLOW_RUN_ID

cd "$state" # what MLflow writes by relative names stays here
exec mlflow server --host "$host" --port "$port" --workers "${MLFLOW_WORKERS:-2}" \
    --app-name basic-auth --artifacts-destination "$state/artifacts" \
    --allowed-hosts "$hosts" --cors-allowed-origins "$origins"
