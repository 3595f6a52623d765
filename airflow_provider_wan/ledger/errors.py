# SPDX-License-Identifier: Apache-2.0
"""
Errors of the ledger. None of them spends money, and none is ever treated as "no entry".

::

    WanError
     └── LedgerError
          ├── LedgerUnavailableError   cannot be read or written now             retry: yes
          │    └── LedgerRecordError   accepted and paid for, its id not recorded paid: yes
          ├── LedgerAccountError       the clip belongs to another account       retry: no
          ├── LedgerBusyError          another task has claimed the clip         retry: yes
          ├── LedgerCorruptError       an entry exists and cannot be read        retry: no
          ├── LedgerVersionError       written by another version of this code   retry: no
          ├── LedgerUnsafeError        the store ignores conditional writes      retry: no
          ├── AlreadyExistsError       `create` lost the race                    (answer of a store)
          └── ConflictError            `replace` lost the race                   (answer of a store)
"""

from __future__ import annotations

from airflow_provider_wan.api.errors import Paid, Retry, WanError


class LedgerError(WanError):
    """Base class of the ledger's errors."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be read or written now. Its content is unknown, so nothing is paid."""

    retry = Retry.LATER


class LedgerRecordError(LedgerUnavailableError):
    """A request was accepted, and the ledger could not record its id. The next attempt finds it in the API's list."""

    paid = Paid.YES
    retry = Retry.RECONCILE


class LedgerAccountError(LedgerError):
    """The clip's entry belongs to another account of the API. It is neither used nor changed, and nothing is paid."""


class LedgerBusyError(LedgerError):
    """Another task has claimed the clip and is about to pay for it; waiting for it took too long."""

    retry = Retry.LATER


class LedgerCorruptError(LedgerError):
    """An entry exists and is not what this code writes (empty, truncated or edited)."""


class LedgerVersionError(LedgerError):
    """An entry was written in the format of another version of this code."""


class LedgerUnsafeError(LedgerError):
    """The store ignores conditions on writes: two tasks could both believe that they may pay."""


class AlreadyExistsError(LedgerError):
    """An entry with that fingerprint already exists."""


class ConflictError(LedgerError):
    """The entry is no longer the one that was read."""


class IllegalTransitionError(LedgerError):
    """A state change that the ledger does not allow; an error in the calling code."""
