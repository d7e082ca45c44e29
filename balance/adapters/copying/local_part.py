"""A part on a disk of this machine."""

from __future__ import annotations

import ctypes
import fcntl
import os
from contextlib import suppress

from balance.adapters.copying.part import FULL, writing
from balance.adapters.copying.place import Place
from balance.errors import Conflict, StorageError


class LocalPart:
    """A file beside the destination, and a sidecar with the notes."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._path = place.beside("part")
        self._notes_path = place.beside("blocks")
        self._handle = self._notes = -1
        self._can_share = True

    def is_left(self) -> bool:
        """As `Part.is_left`; notes of a part that is in place already are taken away."""
        if os.path.exists(self._path):  # noqa: PTH110
            return os.path.exists(self._notes_path)  # noqa: PTH110
        with writing(self._place.url), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(self._notes_path)  # noqa: PTH108
        return False

    def begin(self, heading: str, size_bytes: int, piece_bytes: int) -> dict[int, str]:
        """As `Part.begin`; `Conflict` where another copy to the same destination is under way."""
        with writing(self._place.url):
            os.makedirs(self._place.folder, exist_ok=True)  # noqa: PTH103
            self._handle = self._locked()
            known = self._known(heading)
            self._check_room(size_bytes, len(known) * piece_bytes)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._notes = os.open(self._notes_path, flags, 0o666)
            if not known:
                os.ftruncate(self._notes, 0)
                os.write(self._notes, f"{heading}\n".encode())
                os.ftruncate(self._handle, 0)
            elif os.fstat(self._handle).st_size > size_bytes:
                os.ftruncate(self._handle, size_bytes)
        return known

    def _locked(self) -> int:
        """Open the part and lock it: the lock goes with the process, however that ends."""
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.stat(self._path).st_ino == os.fstat(handle).st_ino:  # noqa: PTH116
                        return handle
            except BlockingIOError:
                os.close(handle)
                raise Conflict(
                    f"another copy to {self._place.url} is under way; let it end first", destination=self._place.url
                ) from None
            os.close(handle)  # the other one has just put it in place: there is a new one to be made

    def _known(self, heading: str) -> dict[int, str]:
        try:
            with open(self._notes_path, "rb") as notes:  # noqa: PTH123
                head, *lines = notes.read().decode("utf-8", "replace").split("\n")
        except FileNotFoundError:
            return {}
        known = {}
        for line in lines[:-1] if head == heading else ():  # behind the last newline a line may be torn
            number, _, noted = line.partition(" ")
            if number.isdigit():
                known[int(number)] = noted
        return known

    def _check_room(self, size_bytes: int, held_bytes: int) -> None:
        disk = os.statvfs(self._place.folder)
        free = disk.f_bavail * disk.f_frsize
        if size_bytes - held_bytes > free:
            if not held_bytes:
                self.discard()
            raise StorageError(
                f"{self._place.url} needs {size_bytes - held_bytes} bytes more, and the disk has {free} left",
                destination=self._place.url,
                free_bytes=free,
            )

    def write(self, number: int, offset: int, piece: memoryview, noted: str, old: int | None) -> None:
        """As `Part.write`; what the old file holds already is shared with it where the file system can do that."""
        with writing(self._place.url):
            if old is None or not self._shared(old, offset, len(piece)):
                done = 0
                while done < len(piece):
                    done += os.pwrite(self._handle, piece[done:], offset + done)
            os.write(self._notes, f"{number} {noted}\n".encode())  # one call: lines of two threads do not mix

    def _shared(self, old: int, offset: int, size_bytes: int) -> bool:
        done = 0
        while self._can_share and done < size_bytes:
            try:
                got = os.copy_file_range(old, self._handle, size_bytes - done, offset + done, offset + done)
            except OSError as error:
                if error.errno in FULL:
                    raise
                got = 0  # not here, or not between these two
            if not got:
                self._can_share = False
            done += got
        return done == size_bytes

    def read(self, number: int, offset: int, into: memoryview) -> int:  # noqa: ARG002 (the offset says it here)
        """As `Part.read`."""
        done = 0
        with writing(self._place.url):
            while done < len(into) and (got := os.preadv(self._handle, [into[done:]], offset + done)):
                done += got
        return done

    def settle(self, *, syncs: bool) -> None:
        """As `Part.settle`."""
        with writing(self._place.url):
            if syncs:
                os.fsync(self._handle)

    def replace(self) -> None:
        """As `Part.replace`; the folder is left to `sync_folder`."""
        with writing(self._place.url):
            os.replace(self._path, self._place.path)  # noqa: PTH105
            with suppress(FileNotFoundError):
                os.unlink(self._notes_path)  # noqa: PTH108
        self.close()

    def discard(self) -> None:
        """As `Part.discard`."""
        with writing(self._place.url):
            for path in (self._notes_path, self._path):
                with suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108
        self.close()

    def close(self) -> None:
        """As `Part.close`."""
        for handle in (self._notes, self._handle):
            if handle >= 0:
                os.close(handle)
        self._notes = self._handle = -1


def sync_disk(folder: str) -> None:
    """Bring all that was written to the file system of a folder to the disk: for many files faster than one by one."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(handle):
            raise OSError(ctypes.get_errno(), "syncfs failed", folder)
    finally:
        os.close(handle)


def sync_folder(folder: str) -> None:
    """Make new names durable: a rename is in the folder, and the folder is a file of its own."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
