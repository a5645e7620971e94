#!/bin/sh
# Makes the secrets of deploy/compose.yaml, each in a file of deploy/secrets that is not there yet. The folder is closed to
# other users; the files in it are not, because each is read by another user inside its container.
set -eu
umask 022
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # name, content
    if [ ! -s "$folder/$1" ]; then
        printf '%s' "$2" > "$folder/$1"
    fi
}

keep admin_token "$(random)"
keep grafana_password "$(random)"
keep nats_password "$(random)"
keep nats_reader_password "$(random)"
keep postgres_password "$(random)"
keep redis_password "$(random)"
keep db_url "postgresql://klinenode:$(cat "$folder/postgres_password")@postgres:5432/klinenode"
keep cache_url "redis://:$(cat "$folder/redis_password")@redis:6379/0"
keep nats_url "nats://klinenode:$(cat "$folder/nats_password")@nats:4222"
