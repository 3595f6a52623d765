# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.ledger import (
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUnsafeError,
    LedgerVersionError,
    open_store,
)
from airflow_provider_wan.ledger.entry import VERSION, record_intent, submitted
from airflow_provider_wan.ledger.errors import AlreadyExistsError, ConflictError
from airflow_provider_wan.ledger.stores import file as file_module
from airflow_provider_wan.ledger.stores.base import StoredEntry, read_entries
from airflow_provider_wan.ledger.stores.file import FileStore
from dev.testkit.ledger import FINGERPRINT, ME, NOW, OTHER, a_claim


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return FileStore(tmp_path / "ledger")


def test_a_stored_entry_is_read_back(store: Any) -> None:
    assert store.read(FINGERPRINT) is None
    version = store.create(a_claim())
    stored = store.read(FINGERPRINT)
    assert (stored.entry, stored.version) == (a_claim(), version)
    newer = record_intent(a_claim(), NOW)
    version = store.replace(newer, version)
    assert (store.read(FINGERPRINT).entry, store.read(FINGERPRINT).version) == (newer, version)


def test_a_second_create_is_refused(store: Any) -> None:
    store.create(a_claim(ME))
    with pytest.raises(AlreadyExistsError):
        store.create(a_claim(OTHER))
    assert store.read(FINGERPRINT).entry == a_claim(ME)


def test_a_link_that_nfs_makes_and_then_finds_there_is_a_created_entry(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    version = store.create(a_claim(ME))
    assert store.read(FINGERPRINT).version == version
    with pytest.raises(AlreadyExistsError):
        store.create(a_claim(OTHER))


def test_an_entry_that_has_changed_is_not_replaced(store: Any) -> None:
    old = store.create(a_claim())
    store.replace(record_intent(a_claim(), NOW), old)
    with pytest.raises(ConflictError):
        store.replace(submitted(a_claim(), "r1", NOW), old)
    with pytest.raises(ConflictError):
        store.replace(a_claim(fingerprint="gone"), old)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null"])
def test_a_damaged_file_is_an_error_and_not_an_empty_ledger(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{FINGERPRINT}.json").write_bytes(content)
    with pytest.raises(LedgerCorruptError):
        FileStore(tmp_path).read(FINGERPRINT)
    with pytest.raises(AlreadyExistsError):
        FileStore(tmp_path).create(a_claim())


def test_what_is_not_an_entry_is_skipped_in_a_listing_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path)
    store.create(a_claim())
    for name in ("package", "tsconfig", "newer"):
        (tmp_path / f"{name}.json").write_text('{"version": 99}' if name == "newer" else '{"name": "x"}')
    (tmp_path / "two words.json").write_text("{}")

    assert [stored.entry for stored in store.entries()] == [a_claim()]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert sorted(store.fingerprints()) == [FINGERPRINT, "newer", "package", "tsconfig"]


def test_a_copy_of_another_clips_entry_is_refused_and_hands_out_no_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path)
    store.create(a_claim())
    (tmp_path / "another.json").write_bytes((tmp_path / f"{FINGERPRINT}.json").read_bytes())
    with pytest.raises(LedgerCorruptError, match=f"another is a copy of that of {FINGERPRINT}.*delete it"):
        store.read("another")
    assert [stored.entry for stored in store.entries()] == [a_claim()]
    assert "another.json is skipped" in caplog.text


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    FileStore(tmp_path).create(a_claim())
    path = tmp_path / f"{FINGERPRINT}.json"
    path.write_text(path.read_text().replace(f'"version": {VERSION}', '"version": 9'))
    with pytest.raises(LedgerVersionError):
        FileStore(tmp_path).read(FINGERPRINT)


def test_a_folder_that_can_not_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    in_the_way = tmp_path / "ledger"
    in_the_way.write_text("a file")
    store = FileStore(in_the_way)
    for call in (lambda: store.read(FINGERPRINT), lambda: store.create(a_claim()), lambda: list(store.entries())):
        with pytest.raises(LedgerUnavailableError, match="ledger"):
            call()


def test_of_many_threads_one_creates_and_one_replaces(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    winners = []
    start = threading.Barrier(8)

    def race(act: Any, refused: Any) -> None:
        start.wait()
        with contextlib.suppress(refused):
            winners.append(act())

    def run(act: Any, refused: Any) -> Any:
        winners.clear()
        threads = [threading.Thread(target=race, args=(act, refused)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return winners

    (version,) = run(lambda: store.create(a_claim()), AlreadyExistsError)
    assert len(run(lambda: store.replace(record_intent(a_claim(), NOW), version), ConflictError)) == 1


def test_a_lock_that_a_stopped_process_holds_times_out_with_its_name_and_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "LOCK_TIMEOUT", 0.3)
    store = FileStore(tmp_path)
    version = store.create(a_claim())
    code = (
        "import os, signal, sys\n"
        "from airflow_provider_wan.ledger.stores.file import FileStore\n"
        f"with FileStore({str(tmp_path)!r})._lock():\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        os.waitpid(holder.pid, os.WUNTRACED)
        began = time.monotonic()
        with pytest.raises(LedgerUnavailableError, match=rf"{tmp_path}/\.lock.*process {holder.pid} on ") as caught:
            store.replace(record_intent(a_claim(), NOW), version)
        assert time.monotonic() - began < 3
        assert caught.value.retryable
        assert store.read(FINGERPRINT) == StoredEntry(a_claim(), version)  # reading needs no lock
    finally:
        holder.kill()
        holder.wait()
    assert store.replace(record_intent(a_claim(), NOW), version) != version


@pytest.mark.parametrize(
    ("folder_mode", "umask", "mode"),
    [
        (0o755, 0o022, 0o644),
        (0o755, 0o077, 0o600),
        (0o775, 0o002, 0o664),
        (0o770, 0o027, 0o660),
        (0o2770, 0o022, 0o664),
        (0o777, 0o077, 0o666),
        (0o700, 0o077, 0o600),
    ],
    ids=lambda mode: f"{mode:o}",
)
def test_files_have_the_mode_that_the_umask_and_a_shared_folder_give(
    tmp_path: Path, folder_mode: int, umask: int, mode: int
) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    folder.chmod(folder_mode)
    before = os.umask(umask)
    try:
        store = FileStore(folder)
        version = store.create(a_claim())
        store.replace(record_intent(a_claim(), NOW), version)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        ".lock": mode,
        f"{FINGERPRINT}.json": mode,
    }


def test_no_partial_file_is_left_or_listed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    version = store.create(a_claim())
    store.replace(record_intent(a_claim(), NOW), version)
    with pytest.raises(AlreadyExistsError):
        store.create(a_claim())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", f"{FINGERPRINT}.json"]
    assert [stored.entry for stored in store.entries()] == [record_intent(a_claim(), NOW)]


def test_entries_not_modified_since_are_left_out(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    for name in ("old", "new"):
        store.create(a_claim(fingerprint=name))
    os.utime(tmp_path / "old.json", (NOW - 100, NOW - 100))
    os.utime(tmp_path / "new.json", (NOW, NOW))
    assert [stored.entry.fingerprint for stored in store.entries(modified_since=NOW - 50)] == ["new"]
    assert list(FileStore(tmp_path / "missing").entries()) == []


def test_a_sound_file_system_passes_the_probe_and_leaves_nothing(tmp_path: Path) -> None:
    FileStore(tmp_path).probe()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("module", "name", "broken"),
    [(os, "link", lambda source, target: open(target, "w").close()), (fcntl, "flock", lambda *args: None)],
)
def test_a_file_system_without_exclusive_links_or_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, broken: Any
) -> None:
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(LedgerUnsafeError):
        FileStore(tmp_path).probe()


def test_a_uri_opens_its_store(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}").uri == f"file://{tmp_path}"
    assert open_store("s3://bucket/a/b/", s3_client=lambda: None).uri == "s3://bucket/a/b"
    assert open_store("s3://bucket", s3_client=lambda: None).uri == "s3://bucket"
    assert repr(open_store("s3://bucket", s3_client=lambda: None)) == "S3Store('s3://bucket')"


@pytest.mark.parametrize("uri", ["", "ledger", "file://relative", "s3://", "s3:///prefix", "http://x/y", "gs://b/p"])
def test_any_other_uri_is_refused(uri: str) -> None:
    with pytest.raises(WanValidationError, match="ledger"):
        open_store(uri, s3_client=lambda: None)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 200])
def test_a_fingerprint_that_leads_elsewhere_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(WanValidationError):
        FileStore(tmp_path).read(name)


@pytest.mark.parametrize("name", ["plain", "a/b/c", "../x", "/x", "budgets/", "budgets/../x", "bud.gets/x"])
def test_a_document_whose_name_leads_elsewhere_or_is_an_entrys_is_refused(store: Any, name: str) -> None:
    with pytest.raises(WanValidationError, match="folder/name"):
        store.read_document(name)
    with pytest.raises(WanValidationError, match="folder/name"):
        store.write_document(name, b"{}", None)


def test_a_document_is_written_once_by_each_version_and_is_no_entry(store: Any) -> None:
    assert store.read_document("budgets/one") is None
    version = store.write_document("budgets/one", b"1", None)
    for wrong in (None, "0" * 64):
        with pytest.raises(ConflictError):
            store.write_document("budgets/one", b"2", wrong)
    newer = store.write_document("budgets/one", b"2", version)
    assert (store.read_document("budgets/one").content, store.read_document("budgets/one").version) == (b"2", newer)
    assert list(store.fingerprints()) == []


def test_an_entry_that_is_deleted_while_the_ledger_is_listed_is_left_out(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        store.create(a_claim(fingerprint=name))

    read = store.read

    def gone(fingerprint: str) -> Any:
        if fingerprint == "one":
            (tmp_path / "ledger" / "one.json").unlink()
        return read(fingerprint)

    monkeypatch.setattr(store, "read", gone)
    assert [stored.entry.fingerprint for stored in store.entries()] == ["two"]


def test_an_entry_that_is_deleted_before_its_age_is_read_is_left_out(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(a_claim())
    scandir = os.scandir

    @contextlib.contextmanager
    def deleted_meanwhile(folder: Any) -> Any:
        with scandir(folder) as items:
            listed = list(items)
        (tmp_path / "ledger" / f"{FINGERPRINT}.json").unlink()
        yield iter(listed)

    monkeypatch.setattr(os, "scandir", deleted_meanwhile)
    assert list(store.entries(modified_since=0.5)) == []


def test_a_store_shows_where_it_is(store: Any, tmp_path: Path) -> None:
    assert repr(store) == f"FileStore('file://{tmp_path}/ledger')"


def test_a_listing_that_is_left_early_reads_no_further() -> None:
    read: list[str] = []

    def read_one(name: str) -> StoredEntry:
        read.append(name)
        return StoredEntry(a_claim(fingerprint=name), "1")

    listing: Any = read_entries([f"e{n}" for n in range(100)], read_one, "memory:", readers=2)
    assert next(listing).entry.fingerprint == "e0"
    listing.close()
    assert len(read) < 10


@pytest.mark.parametrize(
    ("content", "holder"),
    [(b"", "an unknown process"), (b"process 7 on h\xf6st", "process 7 on h\ufffdst"), (b"x" * 300, "x" * 200)],
    ids=["empty", "not UTF-8", "long"],
)
def test_a_lock_that_is_held_names_its_holder_as_far_as_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, holder: str
) -> None:
    monkeypatch.setattr(file_module, "LOCK_TIMEOUT", 0.1)
    store = FileStore(tmp_path)
    version = store.create(a_claim())
    with (tmp_path / ".lock").open("w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(content)
        file.flush()
        with pytest.raises(LedgerUnavailableError) as caught:
            store.replace(record_intent(a_claim(), NOW), version)
    assert f" by {holder}. That process" in str(caught.value)
