#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process in the namespaces of the engine: namespace.sh ROOT CONFIG. Mounts, bridges, chains and processes that
# the engine makes are seen by nobody outside, and end with this process.
set -eu
root=$1 config=$2
mount --make-rprivate /
names=$(readlink -f /etc/resolv.conf)
mount -t tmpfs tmpfs /run
mkdir -p "$(dirname "$names")"
[ -e "$names" ] || touch "$names"
# The name server of slirp4netns.
echo nameserver 10.0.2.3 > /run/names
mount --bind /run/names "$names"
ip link set lo up
exec "$root/usr/bin/tini-static" -- "$root/usr/sbin/dockerd" --config-file "$config"
