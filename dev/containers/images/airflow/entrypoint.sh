#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Waits for the database and for the broker, as the official image's entry point does, and becomes the command.
set -euo pipefail
umask 0002

# Whether the host and port of a URL can be reached, tried CONNECTION_CHECK_MAX_COUNT times.
await() {
    local place count
    # By the environment: a command line can be read by everybody.
    place=$(url="$1" python - <<'END'
import os
from urllib.parse import urlsplit

url = urlsplit(os.environ["url"])
print(url.hostname or "", url.port or {"postgresql": 5432, "redis": 6379}.get(url.scheme.partition("+")[0], ""))
END
    )
    local host=${place% *} port=${place#* }
    if [[ -z "$host" || -z "$port" ]]; then return 0; fi
    for ((count = 0; count < ${CONNECTION_CHECK_MAX_COUNT:-20}; count++)); do
        if (: > "/dev/tcp/$host/$port") 2> /dev/null; then return 0; fi
        sleep "${CONNECTION_CHECK_SLEEP_TIME:-3}"
    done
    echo "ERROR: $host:$port cannot be reached" >&2
    return 1
}

if [[ "${CONNECTION_CHECK_MAX_COUNT:-20}" != 0 ]]; then
    await "${AIRFLOW__DATABASE__SQL_ALCHEMY_CONN:-}"
    if [[ "$*" == *celery* ]]; then await "${AIRFLOW__CELERY__BROKER_URL:-}"; fi
fi
case "${1:-bash}" in
    airflow | bash | python) exec "${@:-bash}" ;;
    *) exec airflow "$@" ;;
esac
