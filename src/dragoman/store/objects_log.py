"""Records in a bucket: each is put only if its number is free, and no error tells whether it was.

A lost answer is settled by reading the number back. When even that fails, the record may
still become visible later, by a request that is on its way. Until that is settled, none of
the files that it names may be taken for debris.
"""

import contextlib
import re
from functools import partial

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.base import NumberTaken
from dragoman.store.deadline import together
from dragoman.store.objects_bucket import Bucket
from dragoman.store.objects_failure import Refused
from dragoman.store.record import COPY_BACK, LOG, Record, parse, record_name

_RECORD = re.compile(rf"{LOG}/(\d{{6,}})\.json")
_ATTEMPTS = 3
_READS_AT_ONCE = 16


class RecordObjects:
    """The records in a bucket.

    Args:
        bucket: Where they are.
        single_writer: They are put without the condition that their number is free.
    """

    def __init__(self, bucket: Bucket, *, single_writer: bool) -> None:
        self._bucket, self._single_writer = bucket, single_writer
        self._unsettled: Record | None = None

    def numbers(self, after: int = 0) -> list[int]:
        """Numbers of the records, in order; only those behind `after`."""
        found = self._bucket.below(LOG, after=record_name(after) if after else "")
        return sorted(int(number[1]) for each in found if (number := _RECORD.fullmatch(each.path)))

    def read(self, after: int) -> list[Record]:
        """All records behind `after`; `Damaged` when one is missing or not as it was written."""
        last = max(self.numbers(after), default=0)
        return together([partial(self._read, number) for number in range(after + 1, last + 1)], _READS_AT_ONCE)

    def is_visible(self, record: Record) -> bool:
        """Whether exactly this record has its number already; raises `NumberTaken` when another has."""
        name = record_name(record.seq)
        found = self._bucket.read(name)
        if found not in (None, record.to_bytes()):
            self._unsettled = None
            raise NumberTaken(f"{self._bucket.url}/{name}: another record holds this number")
        return found is not None

    def create(self, record: Record) -> None:
        """Make a record visible if its number is free.

        Raises:
            NumberTaken: It is not.
            StoreUnavailable: It is not known to be visible.
        """
        name, data = record_name(record.seq), record.to_bytes()
        failure = StoreUnavailable(f"{self._bucket.url}: {name} exists but is not shown")
        for _ in range(_ATTEMPTS):
            before, self._unsettled = self._unsettled, record
            try:
                if self._put(name, data):
                    self._unsettled = None
                    return
            except Refused:
                self._unsettled = before
                raise
            except StoreUnavailable as error:
                failure = error
            if self.is_visible(record):
                self._unsettled = None
                return
        raise failure

    def claim(self, name: str, data: bytes) -> bytes:
        """Give bytes a name if nothing has it; returns the bytes that have it.

        Raises:
            StoreUnavailable: It is not known what has it.
        """
        failure = StoreUnavailable(f"{self._bucket.url}: {name} exists but is not shown")
        for _ in range(_ATTEMPTS):
            if (found := self._bucket.read(name)) is not None:
                return found
            try:
                if self._put(name, data):
                    return data
            except Refused:
                raise
            except StoreUnavailable as error:
                failure = error
        raise failure

    def settle(self) -> None:
        """Find out for good whether the last record is visible, where that is not known.

        It is tried once more: then it is visible, or another record has its number for ever.
        """
        if self._unsettled:
            with contextlib.suppress(NumberTaken):
                self.create(self._unsettled)

    def _put(self, name: str, data: bytes) -> bool:
        if not self._single_writer:
            return self._bucket.create(name, data)
        self._bucket.put(name, data)
        return True

    def _read(self, number: int) -> Record:
        name = f"{self._bucket.url}/{record_name(number)}"
        data = self._bucket.read(record_name(number))
        if data is None:
            raise Damaged(f"{name}: missing, though a later record exists", COPY_BACK)
        record = parse(data, name)
        if record.seq != number:
            raise Damaged(f"{name}: holds record {record.seq}", COPY_BACK)
        return record
