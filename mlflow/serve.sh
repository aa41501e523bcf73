#!/usr/bin/env bash
# Starts an MLflow tracking server with Postgres, a folder for artifacts, and users with passwords. See README.md.
set -euo pipefail

fail() {
    echo "serve.sh: $*" >&2
    exit 2
}

[[ $# -eq 0 ]] || fail "takes no arguments; environment variables configure it, see README.md"
command -v mlflow >/dev/null || fail "the command mlflow was not found; pip install 'mlflow[auth]>=3.17,<4' psycopg2-binary"

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

# The only names by which clients may address the server, and the only web pages that may call it.
hosts=${MLFLOW_SERVER_ALLOWED_HOSTS:-localhost,localhost:$port,127.0.0.1,127.0.0.1:$port}
origins=${MLFLOW_SERVER_CORS_ALLOWED_ORIGINS:-http://localhost:$port,http://127.0.0.1:$port}

umask 077
mkdir -p "$state/artifacts" || fail "cannot create the folder $state; set MLFLOW_STATE to a folder that is writable"
state=$(cd "$state" && pwd)

# The database of the runs also holds users and permissions, so that one backup has all.
cat >"$state/basic_auth.ini" <<INI
[mlflow]
default_permission = ${MLFLOW_DEFAULT_PERMISSION:-READ}
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI

export MLFLOW_BACKEND_STORE_URI # not an argument, so that the list of processes shows no password
export MLFLOW_AUTH_CONFIG_PATH="$state/basic_auth.ini" MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
unset MLFLOW_TRACKING_URI MLFLOW_RUN_ID

cd "$state" # for the files that MLflow writes to relative paths
exec mlflow server --host "$host" --port "$port" --workers "${MLFLOW_WORKERS:-2}" \
    --app-name basic-auth --artifacts-destination "$state/artifacts" \
    --allowed-hosts "$hosts" --cors-allowed-origins "$origins"
