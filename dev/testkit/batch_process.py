# SPDX-License-Identifier: Apache-2.0
"""Run one try of a batch in its own process, which can be killed. Its arguments are JSON on the command line."""

from __future__ import annotations

import json
import sys

from airflow_provider_wan.ledger import Policy, submitter

# A POST of the sandbox ends within seconds, and what it accepted is listed at once.
POLICY = Policy(
    post_timeout=10.0, longest_post=10.0, list_lag=0.0, max_intent_age=5.0, absence_confirm_interval=15.0, lease=20.0
)


def main() -> None:
    vars(submitter)["Policy"] = lambda: POLICY
    from dev.testkit.batch_runs import BatchTask
    from dev.testkit.s3_folder import Folder

    parameters = json.loads(sys.argv[1])
    job = BatchTask(Folder(None, parameters["prefix"]), parameters["arguments"], try_number=parameters["try_number"])
    print(json.dumps(job.operator().execute(job.context())))


if __name__ == "__main__":
    main()
