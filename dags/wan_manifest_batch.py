# SPDX-License-Identifier: Apache-2.0
"""Turn the rows of a manifest into clips: in chunks, each of which is one task, so that the executor spreads the work.

The manifest (JSONL, CSV or Parquet on S3) has a column ``image``, and may have ``name``, ``prompt``, ``duration`` and
the other fields of a clip. The connections are ``aws_default`` and ``wan_default``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import AssetAlias, Param, dag, get_current_context, task

from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator


# [START dag]
@dag(
    schedule=None,
    params={
        "manifest": Param(
            type="string",
            pattern=r"^s3://[^/]+/.+\.(jsonl|ndjson|csv|parquet)$",
            description="A table with a column image",
            examples=["s3://my-bucket/rows.jsonl"],
            section="Files",
        ),
        "output": Param(
            type="string",
            pattern=r"^s3://[^/]+/.+/$",
            description="s3://bucket/prefix/ for the clips",
            examples=["s3://my-bucket/clips/"],
            section="Files",
        ),
        "resolution": Param(
            "720P",
            type="string",
            enum=["720P", "1080P"],
            values_display={"720P": "720P, $0.10 a second", "1080P": "1080P, $0.15 a second"},
            description="For rows that do not set it",
            section="Clips",
        ),
        "duration": Param(
            5, type="integer", enum=[5, 10, 15], description="Seconds, for rows that do not set it", section="Clips"
        ),
        "chunk": Param(500, type="integer", minimum=1, description="Rows of one task", section="Tasks"),
        "max_cost": Param(
            None, type=["null", "number"], minimum=0, description="US dollars for each chunk", section="Tasks"
        ),
    },
    tags=["wan", "example"],
    doc_md=__doc__,
)
def wan_manifest_batch() -> None:
    # [END dag]

    # [START chunks]
    @task
    def chunks() -> list[list[int]]:
        """First and last row of each chunk. The rows themselves stay where they are."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from airflow_provider_wan.batch.manifest import count_rows, open_manifest

        params = get_current_context()["params"]
        size = params["chunk"]
        last = count_rows(open_manifest(params["manifest"], S3Hook("aws_default").get_conn))
        return [[first, min(first + size - 1, last)] for first in range(1, last + 1, size)]

    WanI2VBatchOperator.partial(
        task_id="clips",
        manifest="{{ params.manifest }}",
        output_prefix="{{ params.output }}",
        resolution="{{ params.resolution }}",
        duration="{{ params.duration }}",
        max_cost="{{ params.max_cost }}",
        max_failed_fraction=0.05,
        # All chunks share the account's limit: 4 chunks at once, with 10 requests in flight each.
        max_active_tis_per_dagrun=4,
        max_in_flight=10,
        deferrable=True,
        timeout=timedelta(hours=12),
        retries=3,
        retry_delay=timedelta(minutes=1),
        outlets=[AssetAlias("wan_manifest_clips")],
    ).expand(rows=chunks())
    # [END chunks]


wan_manifest_batch()
