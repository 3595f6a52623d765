# SPDX-License-Identifier: Apache-2.0
"""The API as a function of calls and time: no socket, no wall clock, the same result for the same seed and calls.

:class:`SandboxCore` is what the server puts on sockets and what a simulation calls directly.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_wan.sandbox import contract, responses, views
from airflow_provider_wan.sandbox.backend import SandboxBackend
from airflow_provider_wan.sandbox.config import BASE_PATH
from airflow_provider_wan.sandbox.handlers.admin import AdminHandler
from airflow_provider_wan.sandbox.handlers.models import describe_model
from airflow_provider_wan.sandbox.handlers.reads import ReadHandler
from airflow_provider_wan.sandbox.handlers.results import ResultHandler
from airflow_provider_wan.sandbox.handlers.submissions import SubmissionHandler
from airflow_provider_wan.sandbox.handlers.uploads import UploadHandler
from airflow_provider_wan.sandbox.journal import CallRecord
from airflow_provider_wan.sandbox.responses import SandboxResponse


class SandboxCore(SandboxBackend):
    """The request-queue API: the backend with its handlers, and the routing of calls to them.

    The parameters are those of :class:`~airflow_provider_wan.sandbox.backend.SandboxBackend`.
    """

    def _clear(self) -> None:
        super()._clear()
        self._uploads = UploadHandler(self)
        self._results = ResultHandler(self, self._uploads)
        self._reads = ReadHandler(self)
        self._submissions = SubmissionHandler(self)
        self.admin = AdminHandler(self)

    def handle(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> SandboxResponse:
        """Handle one call to the API or to ``/admin``.

        :param path: path of the call, with or without the base path.
        :param body: bytes of the request body.
        :returns: the response; its ``wire`` says whether it is sent, or how the connection fails.
        """
        params, lower = params or {}, _lower(headers)
        self.tick()
        if path == "/admin" or path.startswith("/admin/"):
            return self.admin.handle(method, path, params, body)
        inner = path.removeprefix(BASE_PATH)
        response = contract.check_access(self.config, lower) or self._route(method, inner, params, lower, body)
        self._record_call("api", method, inner, params, lower, response)
        return response

    def handle_result(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> SandboxResponse:
        """Handle one call to the host of results and uploads."""
        params, lower = params or {}, _lower(headers)
        self.tick()
        response = self._results.handle(method, path, params, lower, body)
        self._record_call("result", method, path, {}, lower, response)
        return response

    def build_submission_response(self, request_id: str) -> SandboxResponse:
        """Build the response to a submission that waited for its end (see ``SandboxResponse.wait_for``)."""
        job = self.jobs.get(request_id)
        if job is None:
            return responses.internal_error()
        return responses.json_response(200, views.submission(job, self.now(), self.config, self.result_base))

    def _route(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> SandboxResponse:
        org = contract.resolve_organization(self.config, headers)
        match (method, path.strip("/").split("/")):
            case ("POST", ["requests"]):
                return self._submissions.submit(org, headers, body)
            case ("POST", ["upload-url"]):
                return self._uploads.create_ticket(headers, body)
            case ("DELETE", ["requests", request_id]):
                return self._reads.cancel(org, request_id)
            case ("GET", ["requests"]):
                return self._reads.list(org, params)
            case ("GET", ["requests", request_id]):
                return self._reads.get(org, request_id)
            case ("GET", ["models"]):
                return responses.json_response(200, {"model_ids": list(self.config.models)})
            case ("GET", ["models", model]):
                if model not in self.config.models:
                    return responses.no_model(model)
                return responses.json_response(200, describe_model(model, self.config))
            case (_, ["requests"] | ["requests", _] | ["models"] | ["models", _] | ["upload-url"]):
                return responses.error(405, "method not allowed")
        return responses.error(404, "not found")

    def _record_call(
        self,
        host: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        response: SandboxResponse,
    ) -> None:
        call = CallRecord(
            number=self.journal.total_calls,
            time=self.now(),
            host=host,
            method=method,
            path=path,
            status=response.status,
            wire=response.wire,
            request_id=response.request_id,
            accepted=response.accepted,
            authorization="authorization" in headers,
            fault=response.fault,
            limit=params.get("limit"),
            offset=params.get("offset"),
        )
        self.journal.record_call(call)
        if self.sink is not None:
            self.persist({"event": "call", "call": {name: getattr(call, name) for name in CallRecord.__slots__}})


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}
