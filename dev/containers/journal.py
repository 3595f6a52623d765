# SPDX-License-Identifier: Apache-2.0
"""What a run of the container tests did, how long each step took, and what each service needed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Journal:
    """Lines of JSON in a file, to which several processes write one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, kind: str, **facts: Any) -> None:
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"kind": kind, **facts}) + "\n")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Measure a step."""
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        print(f"{seconds:6.1f} s  {text}", flush=True)
        self.note("step", text=text, seconds=round(seconds, 1))

    def read(self, kind: str) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [each for each in map(json.loads, lines) if each["kind"] == kind]
