# SPDX-License-Identifier: Apache-2.0
"""Signed URLs of archived clips and images, and the records beside clips."""
