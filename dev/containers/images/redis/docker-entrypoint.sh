#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Becomes the command; the server as an ordinary user, to whom the data belong.
set -eu
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    chown -R redis:redis .
    exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
fi
exec "$@"
