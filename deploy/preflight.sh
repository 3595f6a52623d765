#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Says whether docker-compose.yml can be started here; ends with 1, and a sentence for each reason, where it can't.
# DOCKER names another client than "docker".
set -u
cd "$(dirname "$0")/.." || exit 1
DOCKER=${DOCKER:-docker}
ENGINE=25
COMPOSE=2.24
failed=0

refuse() {
    echo "$*" >&2
    failed=1
}

# at_least FOUND WANTED, both MAJOR[.MINOR...]
at_least() {
    found_major=${1%%.*} wanted_major=${2%%.*}
    found_minor=${1#*.} wanted_minor=${2#*.}
    found_minor=${found_minor%%[!0-9]*} wanted_minor=${wanted_minor%%[!0-9]*}
    case $2 in *.*) ;; *) wanted_minor=0 ;; esac
    case $found_major in *[!0-9]* | "") return 1 ;; esac
    [ "$found_major" -gt "$wanted_major" ] ||
        { [ "$found_major" -eq "$wanted_major" ] && [ "${found_minor:-0}" -ge "$wanted_minor" ]; }
}

if ! command -v "$DOCKER" > /dev/null; then
    refuse "Docker is not installed: there is no program '$DOCKER'."
elif ! engine=$("$DOCKER" version --format '{{.Server.Version}}' 2>&1); then
    refuse "The Docker Engine does not answer: $engine"
else
    at_least "$engine" "$ENGINE" ||
        refuse "Docker Engine $engine is too old: docker-compose.yml needs $ENGINE or newer, for the start_interval of its health checks."
    if ! compose=$("$DOCKER" compose version --short 2>&1); then
        refuse "Docker has no plugin 'compose'; docker-compose.yml needs version $COMPOSE or newer of it."
    elif ! at_least "${compose#v}" "$COMPOSE"; then
        refuse "Docker Compose ${compose#v} is too old: docker-compose.yml needs $COMPOSE or newer."
    fi
fi
[ -f .env ] || [ -n "${POSTGRES_PASSWORD:-}" ] ||
    refuse "There is no file .env: 'make env' writes one with generated secrets; .env.example says what is in it."
[ "$failed" -eq 0 ] || exit 1
echo "Docker Engine $engine and Compose ${compose#v} can start docker-compose.yml."
