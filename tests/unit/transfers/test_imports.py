# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("requests", "aiohttp", "boto3", "botocore", "PIL", "av", "tinytag", "tenacity", "urllib3")


@pytest.mark.parametrize("module", ["s3_to_wan", "wan_to_s3"])
def test_importing_a_transfer_adds_no_heavy_module_over_airflow_itself(module: str) -> None:
    code = (
        "import sys; import airflow.sdk; from airflow.providers.common.compat.sdk import BaseOperator; "
        "import airflow.sdk.log; BaseOperator; had = set(sys.modules); "
        f"import airflow_provider_wan.transfers.{module}; new = set(sys.modules) - had; "
        f"print([name for name in {HEAVY!r} if name in new])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines()[-1] == "[]"
