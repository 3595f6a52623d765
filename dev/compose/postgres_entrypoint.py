# SPDX-License-Identifier: Apache-2.0
"""The entry point of the PostgreSQL image: create the database if there is none, then exec the server.

``POSTGRES_USER``, ``POSTGRES_PASSWORD``, ``POSTGRES_DB``, ``PGDATA`` and ``PGPORT`` are as in that image. It listens
on 127.0.0.1 only.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
ORDINARY = 1000


def leave_root(data: Path) -> None:
    """Change to another user, of a new namespace or of this machine: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) == 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{ORDINARY} 0 1"), ("gid_map", f"{ORDINARY} 0 1")):
            Path(f"/proc/self/{name}").write_text(line, encoding="utf-8")
        return
    nobody = pwd.getpwnam("nobody")
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def initialize(data: Path) -> None:
    """Create the cluster, its user and its database."""
    env = os.environ
    common = [f"--pgdata={data}", f"--username={env['POSTGRES_USER']}", "--auth=scram-sha-256", "--encoding=UTF8"]
    secret = Path(env["TMPDIR"], "postgres-password")
    secret.touch(mode=0o600)
    secret.write_text(env["POSTGRES_PASSWORD"], encoding="utf-8")
    try:
        subprocess.run(["initdb", *common, f"--pwfile={secret}", "--no-instructions"], check=True)
    finally:
        secret.unlink()
    # In single-user mode the server does not listen and needs no password.
    subprocess.run(
        ["postgres", "--single", "-D", str(data), "postgres"],
        input=f'CREATE DATABASE "{env["POSTGRES_DB"]}"\n',
        text=True,
        check=True,
    )


def main() -> None:
    data = Path(os.environ["PGDATA"])
    data.mkdir(parents=True, exist_ok=True)
    leave_root(data)
    if not (data / "PG_VERSION").exists():
        data.chmod(0o700)
        initialize(data)
    options = ["-D", str(data), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    program, *given = sys.argv[1:]
    os.execvp(program, [program, *options, *given])


if __name__ == "__main__":
    main()
