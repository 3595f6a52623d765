# SPDX-License-Identifier: Apache-2.0
"""Access to a running installation, of either :mod:`dev.stack` or :mod:`dev.cluster`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import requests

from dev.airflow_client import AirflowClient
from dev.component import Component, StackError, wait_for

REGION = "us-east-1"


class Installation(ABC):
    """Airflow, S3 and the sandbox, from outside.

    :ivar airflow: its REST API.
    :ivar s3_keys: access key and secret key of the S3.
    """

    airflow: AirflowClient
    s3_keys: tuple[str, str]

    @property
    @abstractmethod
    def s3_url(self) -> str:
        """Return the S3 endpoint."""

    @property
    @abstractmethod
    def sandbox_origin(self) -> str:
        """Scheme, host and port of the sandbox."""

    def _dag_readers(self) -> Sequence[Component]:
        """Return the components that read Dags and that nothing restarts."""
        return ()

    def wait_for_dags(self, *dag_ids: str, seconds: float = 120) -> None:
        """Wait until Airflow knows the Dags. :raises StackError: when a Dag file can't be imported."""

        def known() -> bool:
            if errors := self.airflow.import_errors():
                raise StackError("a Dag file cannot be imported:\n" + "\n".join(errors))
            return all(self.airflow.has_dag(dag_id) for dag_id in dag_ids)

        what = f"Airflow to read {', '.join(dag_ids)}"
        wait_for(what, known, seconds=seconds, every=0.5, parts=self._dag_readers())

    def s3_client(self, **config: Any) -> Any:
        """A boto3 client of the S3. :param config: as for ``botocore.config.Config``."""
        import boto3
        from botocore.config import Config

        access, secret = self.s3_keys
        return boto3.client(
            "s3",
            endpoint_url=self.s3_url,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            region_name=REGION,
            config=Config(**config),
        )

    def sandbox_admin(self, path: str, method: str = "GET", **body: Any) -> Any:
        """Call a control of the sandbox, such as ``charges``, ``accepted`` or ``faults``.

        :raises requests.HTTPError: when the sandbox refuses.
        """
        session = requests.Session()
        session.trust_env = False
        answer = session.request(method, f"{self.sandbox_origin}/admin/{path}", json=body or None, timeout=30)
        answer.raise_for_status()
        return answer.json()
