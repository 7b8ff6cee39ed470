#!/bin/bash
# Run once by the database's image when its volume is empty: the owner, who may change the schema, the application's role,
# which may only read and write rows, and the extension, which only a superuser can add.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set owner="$HOURZ_OWNER_PASSWORD" --set app="$HOURZ_APP_PASSWORD" <<'SQL'
CREATE ROLE hourz_owner LOGIN PASSWORD :'owner';
CREATE ROLE hourz_app LOGIN PASSWORD :'app';
CREATE DATABASE hourz OWNER hourz_owner;
REVOKE CONNECT ON DATABASE hourz FROM PUBLIC;
GRANT CONNECT ON DATABASE hourz TO hourz_app;
\connect hourz
CREATE EXTENSION postgis;
SQL
