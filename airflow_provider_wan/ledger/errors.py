# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong with the ledger. None of these spends money, and none is ever taken for "no entry".

::

    WanError
     └── LedgerError
          ├── LedgerUnavailableError   it can't be read or written now           retry: yes
          ├── LedgerBusyError          another task has claimed the clip         retry: yes
          ├── LedgerCorruptError       an entry is there and can't be read       retry: no
          ├── LedgerVersionError       written by a newer version of this code   retry: no
          ├── LedgerUnsafeError        its server does not honour conditions     retry: no
          ├── AlreadyExistsError       `create` came second                      (answer of a store)
          └── ConflictError            `replace` came second                     (answer of a store)
"""

from __future__ import annotations

from airflow_provider_wan.api.errors import WanError


class LedgerError(WanError):
    """Root of the ledger's errors."""


class LedgerUnavailableError(LedgerError):
    """The ledger can't be read or written now; what it holds is not known, so nothing is paid."""

    retryable = True


class LedgerBusyError(LedgerError):
    """Another task has claimed the clip and is about to pay for it; following it took too long."""

    retryable = True


class LedgerCorruptError(LedgerError):
    """An entry exists and is not what this code writes (empty, cut off, edited)."""


class LedgerVersionError(LedgerError):
    """An entry was written by a newer version of this code."""


class LedgerUnsafeError(LedgerError):
    """The store ignores conditions on writes: two tasks could both believe that they may pay."""


class AlreadyExistsError(LedgerError):
    """There is an entry under that fingerprint already."""


class ConflictError(LedgerError):
    """The entry is no longer the one that was read."""


class IllegalTransitionError(LedgerError):
    """A change of state that the ledger does not allow; a mistake in the code that asks for it."""
