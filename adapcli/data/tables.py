"""Files of rows, each a picture and its class: Arrow's stream format, mapped into memory, and Parquet.

A Parquet file is read a group of rows at a time, from the disk or over the network alike.
"""

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from adapcli.data.columns import Columns, find_columns
from adapcli.data.entries import LARGEST, ContentEntry, pieces_key
from adapcli.data.images import UnreadableImageError
from adapcli.errors import FileError
from adapcli.limits import memory_bytes

KEPT_BYTES = 1 << 28
"""Groups of rows that each process keeps, the last one in any case."""


class Elsewhere(Protocol):
    """A place other than the disk that files are read from, such as a file system of fsspec."""

    def open(self, path: str, mode: str) -> AbstractContextManager[IO[bytes]]:
        """As the builtin."""
        ...


class RowFile(ABC):
    """A file of rows. name: for people, unique in its source. Sent to another process, it is opened anew.

    ignored: columns that are neither image nor label.
    """

    name: str
    columns: Columns
    ignored: Sequence[str]

    @abstractmethod
    def labels(self) -> list[object]:
        """The class of every row; None without a column of them."""

    @abstractmethod
    def picture(self, row: int) -> Any:
        """What the row holds as its picture."""

    @abstractmethod
    def key(self, row: int) -> str:
        """See Entry."""

    @abstractmethod
    def mark(self, row: int) -> str:
        """See Entry."""

    def block(self, row: int) -> str:
        """See Entry."""
        return ""


@dataclass(frozen=True)
class TableEntry(ContentEntry):
    """A row of a file."""

    file: RowFile
    row: int

    @property
    def block(self) -> str:
        """See Entry."""
        return self.file.block(self.row)

    def content(self) -> bytes:
        """See ContentEntry. A picture that is only named, by a path or an address, is not fetched."""
        return encoded(self.file.picture(self.row))

    def key(self) -> str:
        """See Entry."""
        return self.file.key(self.row)

    def mark(self) -> str:
        """See Entry."""
        return self.file.mark(self.row)


def encoded(picture: object) -> bytes:
    """The bytes of a picture, plain or with its path. UnreadableImageError if they are not there."""
    content = picture.get("bytes") if isinstance(picture, Mapping) else picture
    if not isinstance(content, bytes):
        raise UnreadableImageError("no bytes in it; a path or an address is not followed")
    if len(content) > LARGEST:
        raise UnreadableImageError(f"{len(content):,} bytes, more than {LARGEST:,}")
    return content


class ArrowFile(RowFile):
    """A file of Arrow's stream format: what is read of it is what is needed."""

    def __init__(self, path: Path, name: str, said: Mapping[str, str] | None = None) -> None:
        import pyarrow as pa

        self.path, self.name, self.said = path, name, said
        try:
            self._table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowException) as error:
            raise FileError(f"{path}: not a file of Arrow: {_line(error)}") from error
        self.columns = find_columns(str(path), self._table.schema, said)
        self.ignored = [name for name in self._table.schema.names if name not in self.columns[:2]]
        self._pictures = self._table.column(self.columns.picture)
        self._sizes: list[int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrowFile, (self.path, self.name, self.said)

    def labels(self) -> list[object]:
        """See RowFile."""
        if not self.columns.label:
            return [None] * int(self._table.num_rows)
        found: list[object] = self._table.column(self.columns.label).to_pylist()
        return found

    def picture(self, row: int) -> Any:
        """See RowFile."""
        return self._pictures[row].as_py()

    def key(self, row: int) -> str:
        """See Entry: of the picture's content."""
        try:
            content = encoded(self.picture(row))
        except UnreadableImageError:
            return f"{self.name}/{row}"
        return pieces_key(len(content), lambda start, count: content[start : start + count])

    def mark(self, row: int) -> str:
        """See Entry: the picture's size."""
        if self._sizes is None:
            import pyarrow.compute as pc

            plain = self._pictures if not _is_struct(self._pictures.type) else None
            content = pc.struct_field(self._pictures, "bytes") if plain is None else plain
            self._sizes = pc.binary_length(content).to_pylist()
        return str(self._sizes[row])


@dataclass
class _Open:
    """A Parquet file as one process holds it."""

    process: int
    parquet: Any
    groups: "OrderedDict[int, Any]" = field(default_factory=OrderedDict)


class ParquetFile(RowFile):
    """A file of Parquet, of which groups of rows are read.

    What a row is follows from the file's footer (sizes, places, statistics) and its number: no picture is
    read to tell. FileError for groups of rows that would not fit into an eighth of the memory.
    """

    def __init__(
        self,
        path: str,
        name: str,
        elsewhere: Elsewhere | None = None,
        said: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.name, self.elsewhere, self.said = path, name, elsewhere, said
        self._lock = threading.RLock()
        self._open: _Open | None = None
        about = self._parquet().parquet.metadata
        schema = self._parquet().parquet.schema_arrow
        self.columns = find_columns(path, schema, said)
        self.ignored = [name for name in schema.names if name not in self.columns[:2]]
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        self._ends = [0]
        for group in groups:
            self._ends.append(self._ends[-1] + group.num_rows)
        largest = max((group.total_byte_size for group in groups), default=0)
        if largest > memory_bytes() // 8:
            raise FileError(
                f"{path}: a group of rows of {largest:,} bytes, more than an eighth of the memory",
                "write it with fewer rows to a group, such as 100",
            )
        self._digest = self._footer()

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetFile, (self.path, self.name, self.elsewhere, self.said)

    def labels(self) -> list[object]:
        """See RowFile."""
        if not self.columns.label:
            return [None] * self._ends[-1]
        try:
            table = _read(lambda: self._parquet().parquet.read([self.columns.label], use_threads=False))
        except UnreadableImageError as error:
            raise FileError(f"{self.path}: {self.columns.label}: cannot be read: {error}") from error
        found: list[object] = table.column(0).to_pylist()
        return found

    def picture(self, row: int) -> Any:
        """See RowFile."""
        number = self._group(row)
        with self._lock:
            column = self._column(number)
        return column[row - self._ends[number]].as_py()

    def key(self, row: int) -> str:
        """See Entry: of the row's place, so copies of a picture may part."""
        return hashlib.sha256(f"{self.name} {self._digest} {row}".encode()).hexdigest()[:32]

    def mark(self, row: int) -> str:
        """See Entry: a digest of the file's footer."""
        return self._digest

    def block(self, row: int) -> str:
        """See Entry: the group of rows."""
        return f"{self.name}:{self._group(row)}"

    def _group(self, row: int) -> int:
        return bisect_right(self._ends, row) - 1

    def _column(self, number: int) -> Any:
        """The pictures of a group; kept, until others need the room."""
        groups = self._parquet().groups
        if number not in groups:
            columns = [self.columns.picture]
            read = self._parquet().parquet.read_row_group
            groups[number] = _read(lambda: read(number, columns, use_threads=False)).column(0)
        groups.move_to_end(number)
        while len(groups) > 1 and sum(column.nbytes for column in groups.values()) > KEPT_BYTES:
            groups.popitem(last=False)
        return groups[number]

    def _parquet(self) -> _Open:
        """The file, opened by this very process: two that share a place in it would read each other's."""
        if self._open is None or self._open.process != os.getpid():
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                there = self.elsewhere.open(self.path, "rb") if self.elsewhere else self.path
                parquet = pq.ParquetFile(there)
            except (OSError, pa.ArrowException) as error:
                raise FileError(f"{self.path}: not a file of Parquet: {_line(error)}") from error
            self._open = _Open(os.getpid(), parquet)
        return self._open

    def _footer(self) -> str:
        with self.elsewhere.open(self.path, "rb") if self.elsewhere else Path(self.path).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(end - 8)
            size = int.from_bytes(file.read(4), "little")
            file.seek(max(0, end - 8 - size))
            return hashlib.sha256(f"{end}".encode() + file.read(size)).hexdigest()[:32]


def _read(read: Callable[[], Any]) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (OSError, pa.ArrowException) as error:
        raise UnreadableImageError(_line(error)) from error


def _is_struct(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
