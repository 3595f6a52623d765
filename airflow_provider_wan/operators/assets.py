# SPDX-License-Identifier: Apache-2.0
"""Assets of what tasks write, and their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.s3.uri import split_s3_uri

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context


def build_asset(output: Any) -> Any:
    """Return the asset of an output: its prefix, up to the first template in it.

    :param output: ``s3://`` URI that ends in ``/``.
    :returns: the asset; None if the prefix is only a bucket.
    """
    if not isinstance(output, str):
        return None
    static = output.split("{", 1)[0]
    prefix = static if static == output else static.rpartition("/")[0] + "/"
    if not prefix.startswith("s3://") or not split_s3_uri(prefix)[1].strip("/"):
        return None
    from airflow.sdk import Asset

    return Asset(uri=prefix, name=prefix)


def build_file_asset(key: Any, bucket: Any = None) -> Any:
    """Return the asset of a file: the prefix in which it lies.

    :param key: ``s3://`` URI, or a key in ``bucket``.
    :param bucket: the bucket, if the key does not name it.
    :returns: the asset; None if the prefix is not known before the task runs.
    """
    if not isinstance(key, str):
        return None
    uri = key if "://" in key or not isinstance(bucket, str) else f"s3://{bucket}/{key.lstrip('/')}"
    return build_asset(f"{uri.split('{', 1)[0].rpartition('/')[0]}/")


def add_default_outlet(operator: BaseOperator, arguments: dict[str, Any], asset: Any) -> None:
    """Make an asset the outlet of a task that names no outlets.

    A mapped task has only the outlets of its ``partial``: Airflow does not know others when the task ends.

    :param operator: the operator that is being initialized.
    :param arguments: arguments of its base class, which are changed.
    :param asset: the asset; None changes nothing.
    """
    if asset is not None and "outlets" not in arguments and not getattr(operator, "_BaseOperator__from_mapped", False):
        arguments["outlets"] = [asset]


def emit_asset_events(context: Context, operator: BaseOperator, address: str, extra: Mapping[str, Any]) -> None:
    """Describe in the events of a task's outlets what was made.

    :param context: Airflow's context.
    :param operator: the task's operator.
    :param address: URI of the asset that an alias among the outlets gets.
    :param extra: plain values, stored below the key ``wan``.
    """
    from airflow.sdk import Asset, AssetAlias
    from airflow.sdk.definitions.asset import AssetRef

    for outlet in operator.outlets:
        if isinstance(outlet, Asset | AssetRef):
            context["outlet_events"][outlet].extra.update({"wan": dict(extra)})
        elif isinstance(outlet, AssetAlias):
            asset = Asset(uri=address, name=address)
            context["outlet_events"][outlet].add(asset, extra={"wan": dict(extra)})
