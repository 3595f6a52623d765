# SPDX-License-Identifier: Apache-2.0
"""Run one try of a batch in its own process, which can be killed. Its arguments are JSON on the command line."""

from __future__ import annotations

import json
import sys
from functools import partial

from airflow_provider_wan.ledger import Policy, submitter


def main() -> None:
    # The two scans that prove an absence are 90 s apart; here a POST ends within seconds.
    vars(submitter)["Policy"] = partial(Policy, absence_confirm_interval=4.0)
    from dev.testkit.batch_runs import BatchTask
    from dev.testkit.s3_folder import Folder

    parameters = json.loads(sys.argv[1])
    job = BatchTask(Folder(None, parameters["prefix"]), parameters["arguments"], try_number=parameters["try_number"])
    print(json.dumps(job.operator().execute(job.context())))


if __name__ == "__main__":
    main()
