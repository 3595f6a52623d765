#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the entry point of the Redis image is here: there is no root to leave.
exec "$@"
