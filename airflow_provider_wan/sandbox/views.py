# SPDX-License-Identifier: Apache-2.0
"""Representation of requests in responses."""

from __future__ import annotations

from typing import Any

from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.job import JobStatus, RenderedFiles, SandboxJob

FAILURE_FIELDS = {Fault.FAILED_MESSAGE: "message", Fault.FAILED_ERRORS: "errors"}
TOP_FIELDS = {Fault.FAILED_TOP_ERROR: "error", Fault.FAILED_TOP_REASON: "reason"}
DISPATCHED_SHARE = 0.25


def status_text(job: SandboxJob, now: float) -> str:
    """Return the status as it is reported."""
    if job.status is JobStatus.CANCELLED and Fault.CANCELED_SPELLING in job.shapes:
        return "canceled"
    if job.status.ended:
        return job.status.value
    if Fault.UNKNOWN_STATUS in job.shapes:
        return "warming_up"
    if job.status is JobStatus.QUEUED:
        return "created" if Fault.CREATED_STATUS in job.shapes else job.status.value
    started = job.started_at or now
    if Fault.DISPATCHED_STATUS in job.shapes and now < started + DISPATCHED_SHARE * job.run_seconds:
        return "dispatched"
    return job.status.value


def submission(job: SandboxJob, now: float, config: SandboxConfig, results: str) -> dict[str, Any]:
    """Build the response to an accepted submission."""
    body = {
        "request_id": job.request_id,
        "model": "wan2.6-i2v-internal" if Fault.MODEL_DIFFERS in job.shapes else job.model,
        "status": status_text(job, now),
        "created_at": int(job.created_at + config.clock_skew),
        "updated_at": int(job.updated_at + config.clock_skew),
        "queued_at": int(job.created_at + config.clock_skew),
    }
    if job.status.ended:
        body["outcome"] = outcome(job, results)
    return body


def record(job: SandboxJob, now: float, config: SandboxConfig, results: str) -> dict[str, Any]:
    """Build the response to a status call, which is also an item of the list.

    :param results: base URL of result files.
    """
    body = submission(job, now, config, results)
    echoed = config.echo_payload and Fault.EMPTY_ECHO not in job.shapes
    body |= {
        "org_id": job.org_id,
        "user_id": "user-sandbox",
        "is_public": False,
        "payload": _echo(job) if echoed else {},
        "outcome": outcome(job, results),
    }
    if job.started_at is not None:
        body["qworker_id"] = f"sandbox-worker-{job.number % 7}"
    if job.status is JobStatus.FAILED and job.life in TOP_FIELDS:
        body[TOP_FIELDS[job.life]] = job.reason
    return body


def _echo(job: SandboxJob) -> dict[str, Any]:
    payload = dict(job.payload)
    if "seed" in payload and Fault.ECHO_SEED_FLOAT in job.shapes:
        payload["seed"] = float(payload["seed"])
    if "seed" in payload and Fault.ECHO_SEED_PADDED in job.shapes:
        payload["seed"] = f"{payload['seed']:010d}"
    if Fault.ECHO_WITHOUT_SEED in job.shapes:
        payload.pop("seed", None)
    if Fault.ECHO_ELABORATED in job.shapes:
        payload["prompt"] = f"In soft morning light, {payload.get('prompt', '')}, cinematic"
    if Fault.ECHO_IMAGE_MOVED in job.shapes:
        payload["img_url"] = f"https://storage.service.example/{job.request_id}.png"
    if Fault.ECHO_OTHER_DURATION in job.shapes:
        payload["duration"] = 10 if payload.get("duration") == 5 else 5
    return payload


def outcome(job: SandboxJob, results: str) -> dict[str, Any] | None:
    """Build the result or the failure reason."""
    if job.status is JobStatus.FAILED:
        if job.reason is None or job.life in TOP_FIELDS:
            return None
        field = FAILURE_FIELDS.get(job.life, "error") if job.life else "error"
        return {field: job.reason}
    if job.status is not JobStatus.SUCCESS or not isinstance(job.render, RenderedFiles):
        return None
    if job.life is Fault.SUCCESS_WITHOUT_MEDIA:
        return {"media_urls": []}
    video = f"{results}/{job.render.video}"
    body: dict[str, Any]
    if Fault.VIDEO_URL_ONLY in job.shapes:
        body = {"video_url": video}
    elif Fault.BARE_MEDIA_URLS in job.shapes:
        body = {"media_urls": [video]}
    else:
        body = {"media_urls": [{"id": "0", "url": video}]}
    if Fault.MP4_THUMBNAIL in job.shapes:
        body["thumbnail_image_url"] = video
    elif job.render.thumbnail and Fault.NO_THUMBNAIL not in job.shapes:
        body["thumbnail_image_url"] = f"{results}/{job.render.thumbnail}"
    return body
