# SPDX-License-Identifier: Apache-2.0
"""Model of the claim protocol, checked exhaustively with SPIN."""
