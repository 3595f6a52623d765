# SPDX-License-Identifier: Apache-2.0
"""A clip in a company: a proxy that inspects TLS, a bucket with a policy, and an API that repeats what it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_wan.sandbox import SandboxServer
from dev import leaks
from dev.installation import REGION
from dev.stack import Stack
from dev.testkit.airflow_harness import BUCKET, AirflowHarness, DagRunHandle
from dev.testkit.proxy import ForwardProxy
from dev.testkit.s3_proxy import S3Proxy
from dev.testkit.tls import PrivateCA

PROMPT = "A secret campaign: the red bicycle climbs the lighthouse in heavy rain"
API_KEY = "company-key-7f3a9c51e2b84d06"
API_HOST = "queue.service.example"
POLICY = {"x-amz-server-side-encryption": "AES256"}


@dataclass
class Company:
    """The runs in the company's network, and what its parts saw."""

    made: DagRunHandle
    refused: DagRunHandle
    failed: DagRunHandle
    proxy: ForwardProxy
    store: S3Proxy
    api: SandboxServer
    ledger: Path


@pytest.fixture(scope="module")
def company(stack: Stack, harness: AirflowHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    ca = PrivateCA(folder / "ca")
    sandbox = SandboxServer(render="tiny", speed=8, run_sigma=0, queue_sigma=0, fetch_seconds=180, api_key=API_KEY)
    with sandbox as api, S3Proxy(stack.s3_port, required=POLICY, may_list=False) as store:
        real = urlsplit(api.base_url)

        def resolve(host: str, port: int) -> tuple[str, int]:
            return ("127.0.0.1", real.port or 0) if host == API_HOST else (host, port)

        with ForwardProxy(ca=ca, resolve=resolve) as proxy:
            stack.airflow.put_connection(
                "wan_company",
                conn_type="wan",
                host=f"https://{API_HOST}{real.path}",
                password=API_KEY,
                # Neither the price nor the host lifts what the task says.
                extra={
                    "proxy": proxy.url,
                    "ca_bundle": str(ca.bundle),
                    "prices": {"720P": 0.001},
                    "result_hosts": ["127.0.0.1", "*.example"],
                },
            )
            access, secret = stack.s3_keys
            stack.airflow.put_connection(
                "aws_company",
                conn_type="aws",
                login=access,
                password=secret,
                extra={"endpoint_url": store.url, "region_name": REGION},
            )
            runs = {}
            for name, fault in (("made", "get_echo"), ("refused", "echo_401"), ("failed", "never_runs")):
                prompt = f"{PROMPT}, take {name}"
                api.inject(fault, 2, match={"prompt": prompt})
                given = {"target": f"s3://{BUCKET}/company/{name}.mp4", "ledger": f"file://{folder}/ledger"}
                runs[name] = harness.start("company_clip", prompt, **given)
            runs["failed"].wait_for("clip", "deferred")
            (job,) = [each for each in api.accepted() if each["payload"]["prompt"].endswith("failed")]
            api.finish(job["request_id"], "failed", f"Moderation refused {job['payload']} of Bearer {API_KEY}")
            assert [runs[name].end(180) for name in runs] == ["success", "failed", "failed"]
            yield Company(**runs, proxy=proxy, store=store, api=api, ledger=folder / "ledger")


def test_a_clip_is_made_through_the_proxy_and_archived_encrypted_without_a_list_right(
    company: Company, s3: Any
) -> None:
    result = company.made.result("clip")
    assert result["uri"] == f"s3://{BUCKET}/company/made.mp4"
    assert result["cost"] == pytest.approx(0.5)
    head = s3.head_object(Bucket=BUCKET, Key="company/made.mp4")
    assert (head["ServerSideEncryption"], head["ContentLength"]) == ("AES256", result["size"])
    assert not [each for each in company.store.refused if each.startswith(("PUT", "POST"))]
    assert set(company.proxy.seen) >= {f"{API_HOST}:443"}
    assert [line for line in company.proxy.inspected if line.startswith("POST")]
    assert [target for target in company.proxy.seen if target.startswith("http://127.0.0.1")]


def test_the_triggerer_polled_through_the_proxy_and_outlived_refusals(company: Company, stack: Stack) -> None:
    request_id = company.made.result("clip")["request_id"]
    polls = [line for line in company.proxy.inspected if line.startswith("GET") and request_id in line]
    assert len(polls) >= 3
    text = "".join(path.read_text(encoding="utf-8") for path in stack.home.logs.rglob("*.trigger.*"))
    assert request_id in text


def test_what_the_api_repeats_is_in_no_database_log_ledger_event_or_xcom(company: Company, stack: Stack) -> None:
    assert len(company.api.journal()) > 5
    log = company.refused.log("clip")
    assert "WanAuthError" in log
    assert "Moderation refused" in company.failed.log("clip")
    keys = {"the API key": API_KEY, "the S3 secret key": stack.s3_keys[1]}
    secrets = leaks.Secrets(keys, {"the prompt": PROMPT}, frozenset({"ingest"}))
    texts = leaks.Secrets({**keys, "the prompt": PROMPT}, {})

    found = leaks.scan_database(stack.home.database, stack.home.fernet_key, secrets)
    found += leaks.scan_files([stack.logs, stack.home.logs], secrets)
    found += leaks.scan_files([company.ledger, *stack.home.logs.glob("dag_id=company_clip")], texts)
    xcoms = str([company.made.result("clip")])
    found += list(texts.find(xcoms, "XCom"))
    assert found == []
    assert list(company.ledger.rglob("*.json"))
