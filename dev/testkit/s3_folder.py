# SPDX-License-Identifier: Apache-2.0
"""A prefix of the test bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BUCKET = "wan-tests"


@dataclass
class Folder:
    """A prefix of the bucket that is this test's own."""

    client: Any
    prefix: str

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def uri(self, name: str = "") -> str:
        return f"s3://{BUCKET}/{self.prefix}/{name}"

    def put(self, name: str, body: bytes, **options: Any) -> str:
        self.client.put_object(Bucket=BUCKET, Key=self.key(name), Body=body, **options)
        return self.uri(name)

    def get(self, name: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=BUCKET, Key=self.key(name))["Body"].read()
        return data

    def head(self, name: str) -> dict[str, Any]:
        head: dict[str, Any] = self.client.head_object(Bucket=BUCKET, Key=self.key(name))
        return head

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=self.prefix + "/").get("Contents", [])
        return sorted(each["Key"].removeprefix(self.prefix + "/") for each in found)

    def uploads_under_way(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [each["Key"] for each in found if each["Key"].startswith(self.prefix + "/")]
