# SPDX-License-Identifier: Apache-2.0
"""``python -m dev.containers``: runs tests/containers on a real container engine.

The machine's engine is used if it answers. Otherwise a private one is made, with stand-ins for the images that can't be
fetched. If neither is possible, the program says so and exits with 0.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time

from dev.component import StackError
from dev.containers.engine import Docker, PrivateEngine, why_not
from dev.containers.images import build_all
from dev.containers.journal import Journal
from dev.containers.packages import EngineError
from dev.containers.report import write_page
from dev.stack import ROOT

FOLDER = ROOT / ".run" / "containers"
PAGE = ROOT / "docs" / "containers.md"


def run_tests(docker: Docker, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", "--basetemp=.run/pytest-containers", "-p", "no:cacheprovider", "-s"]
    command += arguments or ["tests/containers"]
    return subprocess.run(docker.place(command, ROOT), env=docker.environment, cwd=ROOT, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write the log to {PAGE.relative_to(ROOT)} as well")
    options, arguments = parser.parse_known_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    journal = Journal(FOLDER / "journal.jsonl")
    journal.path.unlink(missing_ok=True)
    began = time.monotonic()
    docker = Docker()
    version = docker.version()
    if version is not None:
        print(f"Using the Docker Engine {version} of this machine, with the images that it fetches.")
        journal.note("engine", text=f"Docker Engine {version} of the machine")
        code = run_tests(docker, arguments)
    elif reason := why_not():
        print("Left out: the container tests.", end=" ")
        print(f"No Docker Engine answers here, and no private one can be made: {reason}.")
        return 0
    else:
        print("No Docker Engine answers here: making one from Debian's packages, with stand-ins for the images.")
        engine = PrivateEngine(FOLDER)
        try:
            with journal.step("fetch and start the engine"):
                engine.start()
            version = engine.docker.version()
            journal.note(
                "engine", text=f"Docker Engine {version} from Debian's packages, with stand-ins for the images"
            )
            with journal.step("build the stand-ins for the base images"):
                build_all(engine.docker, ROOT, FOLDER)
            code = run_tests(engine.docker, arguments)
            engine.docker.run(["docker", "image", "prune", "--force"])
        except (EngineError, StackError) as error:
            print(f"It could not be done: {error}", file=sys.stderr)
            return 1
        finally:
            with journal.step("end the engine"):
                engine.stop()
    journal.note("end", seconds=round(time.monotonic() - began), code=code)
    page = write_page(journal, FOLDER / "report.md")
    print(f"The log is in {page.relative_to(ROOT)}.")
    if options.write and code == 0:
        shutil.copyfile(page, PAGE)
    return code


if __name__ == "__main__":
    sys.exit(main())
