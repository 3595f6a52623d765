# SPDX-License-Identifier: Apache-2.0
"""One handler for each group of calls: submissions, reads, models, uploads, results and the admin controls."""
