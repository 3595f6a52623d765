# SPDX-License-Identifier: Apache-2.0
"""The variables of docker-compose.yml with generated secrets: ``python -m dev.compose.variables`` writes ``.env``."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

from dev.compose.interpolation import read_variables

# Only the standard library is used: ``make env`` needs no virtual environment.
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"


def drawn() -> dict[str, str]:
    """Return the variables of ``.env.example``, with a new secret for each empty value."""
    fernet = base64.urlsafe_b64encode(os.urandom(32)).decode()
    return {
        name: value or (fernet if name == "AIRFLOW_FERNET_KEY" else secrets.token_hex(24))
        for name, value in read_variables(EXAMPLE).items()
    }


def main() -> int:
    path = Path(ROOT, ".env")
    if path.exists():
        print(f"{path} is there already, and is left as it is.")
        return 0
    values = drawn()
    lines = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        name, sign, _ = line.partition("=")
        lines.append(f"{name}={values[name]}" if sign and name in values else line)
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"Wrote {path}. The login is admin with AIRFLOW_ADMIN_PASSWORD of it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
