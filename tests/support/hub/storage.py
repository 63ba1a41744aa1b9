"""Where the stand-in keeps its bytes: a folder, or nothing but memory.

There are blobs, written whole, and logs, to which lines are appended. Everything else
that a server knows it rebuilds from its logs, so a server that was killed loses nothing.
"""

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO


class Storage(ABC):
    """Blobs and logs by name; names have slashes."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write a blob."""

    @abstractmethod
    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        """Bytes of a blob; None when there is no such blob."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a blob, if it is there."""

    @abstractmethod
    def append(self, name: str, line: str) -> None:
        """Add a line to a log."""

    @abstractmethod
    def lines(self, name: str) -> list[str]:
        """The whole lines of a log."""

    @abstractmethod
    def logs(self) -> list[str]:
        """Names of all logs."""

    @abstractmethod
    def remove_all(self, prefix: str, log: str) -> None:
        """Remove every blob under a prefix, and a log."""

    @abstractmethod
    def move(self, prefix: str, log: str, to_prefix: str, to_log: str) -> None:
        """Give every blob under a prefix, and a log, another name."""

    @abstractmethod
    def close(self) -> None:
        """Let go of open files."""


class MemoryStorage(Storage):
    """Gone with the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._logs: dict[str, list[str]] = {}

    def put(self, name: str, data: bytes) -> None:
        self._blobs[name] = data

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        data = self._blobs.get(name)
        return data if data is None or (start, end) == (0, None) else data[start:end]

    def remove(self, name: str) -> None:
        self._blobs.pop(name, None)

    def append(self, name: str, line: str) -> None:
        self._logs.setdefault(name, []).append(line)

    def lines(self, name: str) -> list[str]:
        return list(self._logs.get(name, ()))

    def logs(self) -> list[str]:
        return list(self._logs)

    def remove_all(self, prefix: str, log: str) -> None:
        for name in [name for name in self._blobs if name.startswith(prefix + "/")]:
            del self._blobs[name]
        self._logs.pop(log, None)

    def move(self, prefix: str, log: str, to_prefix: str, to_log: str) -> None:
        for name in [name for name in self._blobs if name.startswith(prefix + "/")]:
            self._blobs[to_prefix + name.removeprefix(prefix)] = self._blobs.pop(name)
        self._logs[to_log] = self._logs.pop(log)

    def close(self) -> None:
        pass


class FolderStorage(Storage):
    """A folder. Not fsynced: it is to outlive its server, not its machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, IO[str]] = {}
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        path = self._folder / "blobs" / name
        half = path.with_name(path.name + ".half")
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(data)
        half.replace(path)

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        try:
            with (self._folder / "blobs" / name).open("rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(end - start)
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        (self._folder / "blobs" / name).unlink(missing_ok=True)

    def append(self, name: str, line: str) -> None:
        file = self._open.get(name)
        if file is None:
            path = self._folder / "logs" / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = "".join(f"{line}\n" for line in self.lines(name))
            if path.exists() and path.stat().st_size != len(whole.encode()):
                path.write_text(whole)  # killed in the middle of a line
            file = self._open[name] = path.open("a")
        file.write(line + "\n")
        file.flush()

    def lines(self, name: str) -> list[str]:
        path = self._folder / "logs" / f"{name}.jsonl"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def logs(self) -> list[str]:
        root = self._folder / "logs"
        return sorted(os.fspath(path.relative_to(root).with_suffix("")) for path in root.rglob("*.jsonl"))

    def remove_all(self, prefix: str, log: str) -> None:
        if log in self._open:
            self._open.pop(log).close()
        (self._folder / "logs" / f"{log}.jsonl").unlink(missing_ok=True)
        shutil.rmtree(self._folder / "blobs" / prefix, ignore_errors=True)

    def move(self, prefix: str, log: str, to_prefix: str, to_log: str) -> None:
        if log in self._open:
            self._open.pop(log).close()
        logs, blobs = self._folder / "logs", self._folder / "blobs"
        (logs / f"{to_log}.jsonl").parent.mkdir(parents=True, exist_ok=True)
        (blobs / to_prefix).parent.mkdir(parents=True, exist_ok=True)
        (blobs / prefix).rename(blobs / to_prefix)
        (logs / f"{log}.jsonl").rename(logs / f"{to_log}.jsonl")

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()
