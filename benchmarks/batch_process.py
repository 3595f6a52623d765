# SPDX-License-Identifier: Apache-2.0
"""
Run one try of a batch in its own process. The arguments are JSON on the command line.

Each deferral cycle is a new process, as in Airflow, where a deferred task resumes in another process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from dev.testkit.batch_runs import BatchTask
from dev.testkit.s3_folder import Folder
from dev.testkit.triggers import run_trigger


def in_a_child(job: BatchTask, event: dict[str, Any] | None) -> dict[str, Any]:
    """Run one deferral cycle. :return: ``{"result": …}``, or ``{"trigger": [class path, arguments]}``."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            task, context = job.operator(), job.context()
            try:
                message = {"result": task.execute(context) if event is None else task.execute_complete(context, event)}
            except TaskDeferred as deferred:
                message = {"trigger": deferred.trigger.serialize()}
            with os.fdopen(write, "w") as pipe:
                json.dump(message, pipe)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("a deferral cycle has failed")
    answer: dict[str, Any] = json.loads(text)
    return answer


def main() -> None:
    parameters = json.loads(sys.argv[1])
    job = BatchTask(Folder(None, parameters["prefix"]), parameters["arguments"], try_number=parameters["try_number"])
    if not parameters["arguments"].get("deferrable"):
        print(json.dumps(job.operator().execute(job.context())))
        return
    event = None
    while "result" not in (answer := in_a_child(job, event)):
        path, arguments = answer["trigger"]
        module, _, name = path.rpartition(".")
        event = asyncio.run(run_trigger(getattr(import_module(module), name)(**arguments)))
    print(json.dumps(answer["result"]))


if __name__ == "__main__":
    main()
