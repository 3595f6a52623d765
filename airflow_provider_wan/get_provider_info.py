# SPDX-License-Identifier: Apache-2.0
"""Metadata that Airflow reads at start-up. It must not import anything heavy."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Wan (GMI Cloud)"
_LINK = "https://console.gmicloud.ai"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, valid against ``airflow/provider_info.schema.json``."""
    from airflow_provider_wan import __version__

    return {
        "package-name": "airflow-provider-wan",
        "name": _INTEGRATION,
        "description": "Turns images into videos with the request-queue API of GMI Cloud (wan2.6-i2v, wan2.7-i2v).",
        "versions": [__version__],
        "integrations": [{"integration-name": _INTEGRATION, "external-doc-url": _LINK, "tags": ["service"]}],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_wan.operators.image_to_video",
                    "airflow_provider_wan.operators.wan",
                    "airflow_provider_wan.operators.wan_batch",
                ],
            },
        ],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_wan.sensors.wan"]}],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_wan.hooks.wan"]}],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_wan.triggers.wan", "airflow_provider_wan.triggers.wan_batch"],
            }
        ],
        "transfers": [
            {
                "source-integration-name": "Amazon Simple Storage Service (S3)",
                "target-integration-name": _INTEGRATION,
                "python-module": "airflow_provider_wan.transfers.s3_to_wan",
            },
            {
                "source-integration-name": _INTEGRATION,
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": "airflow_provider_wan.transfers.wan_to_s3",
            },
        ],
        "notifications": ["airflow_provider_wan.notifications.wan.WanRunNotifier"],
        "task-decorators": [{"name": "wan_i2v", "class-name": "airflow_provider_wan.decorators.wan.wan_i2v_task"}],
        "extra-links": ["airflow_provider_wan.links.wan.WanClipsLink", "airflow_provider_wan.links.wan.WanSheetLink"],
        "plugins": [
            {"name": "wan", "plugin-class": "airflow_provider_wan.plugins.wan.WanPlugin"},
        ],
        "config": {
            "wan": {
                "description": "Settings of airflow-provider-wan.",
                "options": {
                    "ledger_uri": {
                        "description": "Location of the ledger for tasks that set none: s3://bucket/prefix, or "
                        "file:///folder on a disk that all workers share. "
                        "Empty: wan-ledger below AIRFLOW_HOME, if the executor runs all tasks on one machine; with any "
                        "other executor it must be set.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my-bucket/wan-ledger",
                        "default": "",
                    },
                    "prices": {
                        "description": "US dollars per second of video, as JSON: by resolution for wan2.6-i2v, and by "
                        "model and resolution for others. A connection can only raise them. Empty: the list prices of "
                        "wan2.6-i2v.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"720P": 0.10, "1080P": 0.15, "wan2.7-i2v": {"720P": 0.10}}',
                        "default": "",
                    },
                    "result_hosts": {
                        "description": "Hosts from which clips may be downloaded, separated by commas; *.example.com "
                        "for all below a domain. A connection and a task can only narrow them. Empty: any public host "
                        "that the API names.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "storage.example.com",
                        "default": "",
                    },
                    "model": {
                        "description": "Model id for tasks that name none, whatever their connection says. Empty: the "
                        "connection's.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "wan2.6-i2v",
                        "default": "",
                    },
                    "status_requests_per_second": {
                        "description": "Maximum number of status requests per second: of each process, or of all "
                        "that have the same limits_uri. A connection can only lower it. Empty: the connection's.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "5",
                        "default": "",
                    },
                    "limits_uri": {
                        "description": "Location by which all workers and triggerers of an account share the rate of "
                        "status requests, such as the ledger's: s3://bucket/prefix, s3://aws_conn_id@bucket/prefix or "
                        "file:///folder. Empty: the connection's, or else the rate applies to each process "
                        "separately.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@my-bucket/wan-ledger",
                        "default": "",
                    },
                    "s3_options": {
                        "description": "Options of everything that is written to S3, as JSON; a task's options take "
                        "precedence; the AWS connection's extra supplies the rest.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/clips"}',
                        "default": "",
                    },
                    "gallery_aws_conn_id": {
                        "description": "AWS connection with which the gallery in Airflow's UI reads the ledger, clips "
                        "and records. Empty: the API server's own credentials.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "aws_read_only",
                        "default": "aws_default",
                    },
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "wan",
                "hook-class-name": "airflow_provider_wan.hooks.wan.WanHook",
                "hook-name": _INTEGRATION,
                "conn-fields": {
                    "organization_id": {
                        "label": "Organization ID",
                        "description": "Sent as X-Organization-ID; only for accounts in several organizations.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "model": {
                        "label": "Model",
                        "description": "Model id for tasks that name none, unless [wan] model does; case sensitive.",
                        "schema": {
                            "type": ["string", "null"],
                            "enum": ["wan2.6-i2v", "wan2.7-i2v"],
                            "default": "wan2.6-i2v",
                        },
                    },
                    "status_requests_per_second": {
                        "label": "Status requests per second",
                        "description": "Maximum number of status requests per second: of each process, or of all "
                        "that have the same limits URI. It can be lower than that of [wan], and not higher.",
                        "schema": {"type": ["number", "null"], "default": 5},
                    },
                    "limits_uri": {
                        "label": "Limits URI",
                        "description": "Location by which all workers and triggerers share the rate, such as the "
                        "ledger's: s3://bucket/prefix, s3://aws_conn_id@bucket/prefix or file:///folder. Empty: the "
                        "rate applies to each process separately.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "result_hosts": {
                        "label": "Result hosts",
                        "description": "Hosts from which clips may be downloaded, separated by commas; it narrows what "
                        "tasks and [wan] allow. Empty: any public host that the API names; redirects to another host "
                        "are refused.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "prices": {
                        "label": "Prices",
                        "description": "US dollars per second of video by resolution, as JSON: "
                        '{"720P": 0.10, "1080P": 0.15}. Those below the list prices, or below the prices of [wan], are '
                        "ignored.",
                        "schema": {"type": ["string", "null"], "format": "json"},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "File or folder of trusted certificates, on workers and triggerers alike. "
                        "Empty: REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE or the system's.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_cert": {
                        "label": "Client certificate",
                        "description": "File of the certificate for mutual TLS.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_key": {
                        "label": "Client key",
                        "description": "File of the client certificate's key, if it is not in the certificate file.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL of the HTTP proxy. Empty: https_proxy, http_proxy or all_proxy.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "no_proxy": {
                        "label": "No proxy for",
                        "description": "Hosts, with their subdomains, and networks such as 10.0.0.0/8 that are "
                        "connected to directly, separated by commas. Empty: no_proxy.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "login"],
                    "relabeling": {"host": "Base URL", "password": "API key"},
                    "placeholders": {"host": "https://console.gmicloud.ai/api/v1/ie/requestqueue/apikey"},
                },
            }
        ],
    }
