"""An object store in a local directory: the object `key` of `bucket` is the file root/bucket/key.

    root/dataset/station-1.csv      an object, whether this store wrote it or somebody's `cp`
    root/dataset/.tmp/3f            a write under way, or what a killed writer left of one
    root/.locks/dataset/3f          lock of the keys that hash to 3f, and the last time it gave out
    root/.locks/dataset/tree        lock for making and removing directories

Writes: holding its key's lock, a writer checks, writes and syncs the temporary file, and moves it
into place by one rename (a hard link where nothing may stand yet). `flock` belongs to the open file
and each call opens its own, so it parts threads as it parts processes; a killed process frees it.
Readers take no lock: they see the file before or after.

Versions are inode, modification time and size. File systems reuse inodes at once and their clocks
stand still for milliseconds, so a writer sets the time itself: the clock's, but later than any its
lock file has given out. It thus rises with every write to a key, also across a delete or when the
clock is set back. Steps are microseconds, which coarser file systems keep too.

Files dropped by hand are objects, and so are symbolic links to files: reads follow them wherever
they point, writes and deletes concern the link, never its target. Linked directories are not
entered, they may form loops; a whole bucket may be a link or a mount. Names that are no keys are
left out. `cp` takes no lock and shows a file while it grows: copy to a dot-name, then `mv`.

What the operating system refuses (disk full, no permission) arrives as its own OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from flts_assets.errors import (
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStoreError,
)
from flts_assets.stores.object_store import ObjectHead, ObjectStore, validate_bucket, validate_key

__all__ = ["DirectoryStore"]

COPIED_AT_ONCE = 1 << 20
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_Move = Callable[[Path, Path], None]


@dataclass(frozen=True)
class DirectoryStore(ObjectStore):
    """Objects as files below `root`, safe between the threads and processes of one machine.

    No key can be a directory of another (`a` beside `a/b`): the later write raises InvalidKeyError.
    """

    root: Path

    def get(self, bucket: str, key: str) -> bytes:
        """The object's bytes. Raises ObjectNotFoundError."""
        return self.get_with_head(bucket, key)[0]

    def get_with_head(self, bucket: str, key: str) -> tuple[bytes, ObjectHead]:
        """Bytes and head of the one file opened. Raises ObjectNotFoundError."""
        with self.open(bucket, key) as file:
            return file.read(), _head(bucket, key, os.fstat(file.fileno()))

    def open(self, bucket: str, key: str) -> BinaryIO:
        """The file itself: a later write puts another in its place. Raises ObjectNotFoundError."""
        path = self._path(bucket, key)
        try:
            return _open_file(path)
        except OSError as error:
            if not _is_absent(error):
                raise
            what = f"no object stands under {bucket}/{key}"
            remedy = "write it, or drop a file into the store's directory"
            raise ObjectNotFoundError(what, remedy=remedy, local=str(path)) from error

    def head(self, bucket: str, key: str) -> ObjectHead | None:
        """The object's head, None where there is none."""
        try:
            status = self._path(bucket, key).stat()
        except OSError as error:
            if not _is_absent(error):
                raise
            return None
        return _head(bucket, key, status) if stat.S_ISREG(status.st_mode) else None

    def put(self, bucket: str, key: str, data: bytes) -> ObjectHead:
        """Write, replacing whatever stands there."""
        with self._lock(bucket, _slot(key)):
            return self._write(bucket, key, data, os.replace)

    def create(self, bucket: str, key: str, data: bytes | Path) -> ObjectHead:
        """Write only if nothing stands there; `data` may be a file. Raises ObjectExistsError."""
        try:
            return self.replace_if_unchanged(bucket, key, data, None)
        except ObjectChangedError as error:
            what = f"{bucket}/{key} exists already and was left as it is"
            raise ObjectExistsError(what, remedy="read it, or choose another key") from error

    def replace_if_unchanged(
        self, bucket: str, key: str, data: bytes | Path, version: str | None
    ) -> ObjectHead:
        """Write only if the version is still this (None: absent). Raises ObjectChangedError."""
        with self._lock(bucket, _slot(key)):
            head = self.head(bucket, key)
            if (head.version if head else None) == version:
                with suppress(FileExistsError):  # a file dropped by hand since the line above
                    move = os.link if version is None else os.replace
                    return self._write(bucket, key, data, move)
        what = f"{bucket}/{key} is no longer {'at the version' if version else 'absent as'} read"
        raise ObjectChangedError(what, received=version, remedy="read it again and decide anew")

    def list(
        self, bucket: str, prefix: str = "", stray: Callable[[str], object] | None = None
    ) -> Iterator[ObjectHead]:
        """Heads of objects whose key begins with `prefix`, in key order, a directory at a time."""
        return self._walk(validate_bucket(bucket), "", prefix, stray)

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object; nothing happens where there is none."""
        with self._lock(bucket, _slot(key)), self._lock(bucket, "tree"):
            if self.head(bucket, key) is not None:
                path = self._path(bucket, key)
                path.unlink(missing_ok=True)
                _sync(self._prune(bucket, path.parent))

    def _path(self, bucket: str, key: str) -> Path:
        directory = self.root / validate_bucket(bucket)
        path = directory / validate_key(key)
        straight = os.path.join(os.path.realpath(directory), *key.split("/")[:-1])
        if os.path.realpath(path.parent) != straight:
            what = f"a directory of {bucket}/{key} is a symbolic link"
            raise InvalidKeyError(what, received=key, remedy="link single files or a whole bucket")
        return path

    def _walk(
        self, bucket: str, directory: str, prefix: str, stray: Callable[[str], object] | None
    ) -> Iterator[ObjectHead]:
        try:
            with os.scandir(self.root / bucket / directory) as entries:
                # A directory sorts as its keys do, by "name/": "a-b" < "a.csv" < "a/b" < "a0".
                names = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in entries)
        except _ABSENT:  # no bucket yet, or removed meanwhile
            return
        for path in (directory + name for name in names):
            try:
                key = validate_key(path.removesuffix("/"))
                if path.endswith("/") and (path.startswith(prefix) or prefix.startswith(path)):
                    yield from self._walk(bucket, path, prefix, stray)
                elif key.startswith(prefix) and (head := self.head(bucket, key)):
                    yield head
            except InvalidKeyError:  # a name that is no key
                if stray is not None and path.startswith(prefix):
                    stray(path)

    def _write(self, bucket: str, key: str, data: bytes | Path, move: _Move) -> ObjectHead:
        """Write a temporary file and `move` it into place. Needs the key's lock."""
        path, slot = self._path(bucket, key), _slot(key)
        temporary = self.root / bucket / ".tmp" / slot
        _make_directory(temporary.parent)
        # What a killed writer left is removed, not opened: it may be a hard link of an object.
        temporary.unlink(missing_ok=True)
        try:
            with temporary.open("xb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, COPIED_AT_ONCE)
                else:
                    file.write(data)
                file.flush()
                modified_ns = _next_time_ns(self.root / ".locks" / bucket / slot)
                os.utime(file.fileno(), ns=(modified_ns, modified_ns))
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
            if status.st_mtime_ns != modified_ns:
                what = "the file system keeps no modification times to the microsecond"
                remedy = "use ext4, xfs, tmpfs"
                raise ObjectStoreError(what, remedy=remedy, local=str(self.root))
            with self._lock(bucket, "tree"):
                try:
                    _make_way(path, key)
                    move(temporary, path)
                finally:
                    self._prune(bucket, path.parent)  # empty only if the move failed
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return _head(bucket, key, status)

    def _prune(self, bucket: str, directory: Path) -> Path:
        """Remove `directory` and those above it while empty; gives the first that stays."""
        with suppress(OSError):  # not empty
            while directory != self.root / bucket:
                directory.rmdir()
                directory = directory.parent
        return directory

    @contextmanager
    def _lock(self, bucket: str, name: str) -> Iterator[None]:
        path = self.root / ".locks" / validate_bucket(bucket) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing frees no lock that a fork inherited
            os.close(lock)


def _open_file(path: Path) -> BinaryIO:
    """For reading. Whatever is no file counts as a directory does: pipes wait, devices never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return os.fdopen(descriptor, "rb")


def _is_absent(error: OSError) -> bool:
    """Nothing stands there; a symbolic link that leads to itself leads nowhere, a socket is no file."""
    return isinstance(error, _ABSENT) or error.errno in (errno.ELOOP, errno.ENXIO)


def _slot(key: str) -> str:
    return sha256(validate_key(key).encode()).hexdigest()[:2]


def _next_time_ns(lock: Path) -> int:
    """Now in whole microseconds, but later than any time this lock file has given out."""
    with lock.open("r+b", buffering=0) as file:
        now = time.time_ns() // 1000 * 1000
        later = max(now, int.from_bytes(file.read(8), "big") + 1000)
        file.seek(0)
        file.write(later.to_bytes(8, "big"))
    return later


def _head(bucket: str, key: str, status: os.stat_result) -> ObjectHead:
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    modified = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    return ObjectHead(bucket, key, status.st_size, version, modified)


def _make_way(path: Path, key: str) -> None:
    """Make the directory that `path` goes into. Raises InvalidKeyError where keys clash."""
    try:
        _make_directory(path.parent)
        if path.is_dir():
            raise IsADirectoryError(path)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidKeyError(
            "a key and a slash cannot begin another key: one would be file and directory at once",
            received=key,
            remedy="choose another key, or delete the one that stands in the way",
            local=str(path),
        ) from error


def _make_directory(directory: Path) -> None:
    """Make it and those missing above it, each synced into its parent."""
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync(directory.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
