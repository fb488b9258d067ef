#!/bin/bash
# Runs once, when PostgreSQL starts on an empty volume: a role for each part of the product, which owns its databases alone.
set -euo pipefail

make_role() {
    local role=$1 password=$2 database
    shift 2
    [ ${#password} -ge 24 ] || { echo "the password of the role $role is shorter than 24 characters" >&2; exit 1; }
    psql -q -v ON_ERROR_STOP=1 -v password="$password" -U postgres -d postgres <<SQL
CREATE ROLE $role LOGIN PASSWORD :'password';
SQL
    for database; do
        psql -q -v ON_ERROR_STOP=1 -U postgres -d postgres -c "CREATE DATABASE $database OWNER $role" \
            -c "REVOKE ALL ON DATABASE $database FROM PUBLIC"
    done
}

make_role mlflow "$MLFLOW_DB_PASSWORD" mlflow
make_role optuna "$OPTUNA_DB_PASSWORD" optuna
make_role api "$API_DB_PASSWORD" accounts predictions
