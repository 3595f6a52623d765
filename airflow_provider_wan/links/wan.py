# SPDX-License-Identifier: Apache-2.0
"""The link from a task to its request."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


class WanRequestLink(BaseOperatorLink):
    """Leads to the request at the API. It holds the request's id, and no key."""

    name: ClassVar[str] = "Wan request"
    key: ClassVar[str] = "wan_request_link"

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Keep the address for :meth:`get_link`."""
        context["ti"].xcom_push(key=cls.key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or nothing where no request was made yet."""
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""


class WanSheetLink(BaseOperatorLink):
    """Leads to the contact sheet of a batch. It is a plain address, not a signed one: the bucket asks who comes."""

    name: ClassVar[str] = "Contact sheet"
    key: ClassVar[str] = "wan_sheet_link"

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Keep the address for :meth:`get_link`."""
        context["ti"].xcom_push(key=cls.key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or nothing where there is none yet."""
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""
