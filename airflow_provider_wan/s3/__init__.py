# SPDX-License-Identifier: Apache-2.0
"""S3 for the other packages: URIs, clients, errors, conditional and multipart writes, and presigned URLs."""
