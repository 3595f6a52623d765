# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_provider_wan.cli``, the same as ``wan-provider``."""

import sys

from airflow_provider_wan.cli.main import main

sys.exit(main())
