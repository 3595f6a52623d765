# SPDX-License-Identifier: Apache-2.0
"""How a request is told of in answers."""

from __future__ import annotations

from typing import Any

from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.job import Job, Rendered, Status

FAILURE_FIELDS = {Fault.FAILED_MESSAGE: "message"}
TOP_FIELDS = {Fault.FAILED_TOP_ERROR: "error", Fault.FAILED_TOP_REASON: "reason"}
DISPATCHED_SHARE = 0.25


def status_word(job: Job, now: float) -> str:
    """The status as it is said."""
    if job.status is Status.CANCELLED and Fault.CANCELED_SPELLING in job.shapes:
        return "canceled"
    if job.status.ended:
        return job.status.value
    if Fault.UNKNOWN_STATUS in job.shapes:
        return "warming_up"
    if job.status is Status.QUEUED:
        return "created" if Fault.CREATED_STATUS in job.shapes else job.status.value
    started = job.started_at or now
    if Fault.DISPATCHED_STATUS in job.shapes and now < started + DISPATCHED_SHARE * job.run_seconds:
        return "dispatched"
    return job.status.value


def submitted(job: Job, now: float, config: SandboxConfig, results: str) -> dict[str, Any]:
    """The answer to an accepted submission."""
    told = {
        "request_id": job.request_id,
        "model": "wan2.6-i2v-internal" if Fault.MODEL_DIFFERS in job.shapes else job.model,
        "status": status_word(job, now),
        "created_at": int(job.created_at + config.clock_skew),
        "updated_at": int(job.updated_at + config.clock_skew),
        "queued_at": int(job.created_at + config.clock_skew),
    }
    if job.status.ended:
        told["outcome"] = outcome(job, results)
    return told


def record(job: Job, now: float, config: SandboxConfig, results: str) -> dict[str, Any]:
    """The answer to a status call, and an item of the list.

    :param results: address under which result files lie.
    """
    told = submitted(job, now, config, results)
    echoed = config.echo_payload and Fault.EMPTY_ECHO not in job.shapes
    told |= {
        "org_id": job.org_id,
        "user_id": "user-sandbox",
        "is_public": False,
        "payload": dict(job.payload) if echoed else {},
        "outcome": outcome(job, results),
    }
    if job.started_at is not None:
        told["qworker_id"] = f"sandbox-worker-{job.number % 7}"
    if job.status is Status.FAILED and job.life in TOP_FIELDS:
        told[TOP_FIELDS[job.life]] = job.reason
    return told


def outcome(job: Job, results: str) -> dict[str, Any] | None:
    """The result, or the reason why there is none."""
    if job.status is Status.FAILED:
        if job.reason is None or job.life in TOP_FIELDS:
            return None
        field = FAILURE_FIELDS.get(job.life, "error") if job.life else "error"
        return {field: job.reason}
    if job.status is not Status.SUCCESS or not isinstance(job.render, Rendered):
        return None
    if job.life is Fault.SUCCESS_WITHOUT_MEDIA:
        return {"media_urls": []}
    video = f"{results}/{job.render.video}"
    told: dict[str, Any]
    if Fault.VIDEO_URL_ONLY in job.shapes:
        told = {"video_url": video}
    elif Fault.BARE_MEDIA_URLS in job.shapes:
        told = {"media_urls": [video]}
    else:
        told = {"media_urls": [{"id": "0", "url": video}]}
    if Fault.MP4_THUMBNAIL in job.shapes:
        told["thumbnail_image_url"] = video
    elif job.render.thumbnail and Fault.NO_THUMBNAIL not in job.shapes:
        told["thumbnail_image_url"] = f"{results}/{job.render.thumbnail}"
    return told
