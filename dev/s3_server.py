# SPDX-License-Identifier: Apache-2.0
"""Runs SeaweedFS as a component of the stack, until SIGTERM.

``S3_ACCESS_KEY=… S3_SECRET_KEY=… python -m dev.s3_server --data-dir D --port P --ready FILE``: FILE is there from the
moment at which objects can be stored.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from dev.seaweed import SeaweedFS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--metrics-port", type=int)
    options = parser.parse_args()
    options.ready.unlink(missing_ok=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    keys = {"access_key": os.environ["S3_ACCESS_KEY"], "secret_key": os.environ["S3_SECRET_KEY"]}
    with SeaweedFS(options.data_dir, s3_port=options.port, metrics_port=options.metrics_port, **keys) as s3:
        options.ready.touch()
        while not stop.wait(1.0):
            os.kill(s3.pid or 0, 0)  # raises, and so ends this component, when the server is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
