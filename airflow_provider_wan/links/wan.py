# SPDX-License-Identifier: Apache-2.0
"""Extra links of the operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


class WanRequestLink(BaseOperatorLink):
    """Link to the request at the API. It contains the request's id, and no key."""

    name: ClassVar[str] = "Wan request"
    key: ClassVar[str] = "wan_request_link"

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Store the address for :meth:`get_link`.

        :param context: Airflow's context.
        :param url: the address.
        """
        context["ti"].xcom_push(key=cls.key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty if there is none yet.

        :param operator: operator of the task.
        :param ti_key: key of the task instance.
        """
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""


class WanSheetLink(BaseOperatorLink):
    """Link to the contact sheet of a batch. It is not signed: the bucket authenticates the reader."""

    name: ClassVar[str] = "Contact sheet"
    key: ClassVar[str] = "wan_sheet_link"

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Store the address for :meth:`get_link`.

        :param context: Airflow's context.
        :param url: the address.
        """
        context["ti"].xcom_push(key=cls.key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty if there is none yet.

        :param operator: operator of the task.
        :param ti_key: key of the task instance.
        """
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""
