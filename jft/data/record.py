"""The identity of a data set as a run records it: name, location, checksums that are fast to compare, and content."""

import dataclasses
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jft.data.content import content_digest
from jft.data.source import Source

# Checksum fields, and how to describe a difference in them.
_SUMS = {
    "labels": "the labels differ",
    "names": "the file names differ",
    "digest": "the content of images or labels differs",
}


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The identity of one split of a data set. None stands for what an older checkpoint did not record.

    Attributes:
      name: for messages: name of the dataset, of its folder or list, or the `name` given to `from_arrays`.
      dataset: the `dataset` argument of `load_source`; empty: images in memory, which only the caller has.
      where: absolute path of the data; empty: no path, or not recorded.
      count: number of images.
      labels: CRC-32 of the labels.
      names: CRC-32 of the file names; 0 for images in memory.
      nbytes: total size of the files, or of all pixels in memory.
      digest: digest of content, labels and order, see `content_digest`; None: not computed.
    """

    name: str
    dataset: str
    where: str
    count: int
    labels: int | None
    names: int | None
    nbytes: int | None = None
    digest: str | None = None

    @classmethod
    def of(cls, source: Source, dataset: str | Source, data_dir: str, *, content: bool = False) -> "DataRecord":
        """Makes the record of a source.

        Args:
          source: the images.
          dataset: the `dataset` argument of `load_source`.
          data_dir: the `data_dir` argument of `load_source`.
          content: also decode files to compute `digest`; for images in memory it is always computed.
        """
        if isinstance(dataset, Source):
            dataset = data_dir = ""
        return cls(
            name=name_of(dataset, data_dir) or source.name,
            dataset=dataset,
            where=str(Path(data_dir).expanduser().absolute()) if data_dir else "",
            count=len(source),
            labels=zlib.crc32(source.labels),
            names=source.names_crc(),
            nbytes=source.nbytes(),
            digest=content_digest(source) if content or source.decoded else None,
        )

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> "DataRecord":
        """Inverse of `to_json`; unknown keys are ignored."""
        return cls(**{field.name: held[field.name] for field in dataclasses.fields(cls) if field.name in held})

    def to_json(self) -> dict[str, Any]:
        """The fields as a dict of JSON types."""
        return dataclasses.asdict(self)

    def differences(self, other: "DataRecord") -> list[str]:
        """Differences such as 'count was 3 and is 4' in the fields that both record; name and location do not count."""
        both = {field: (getattr(self, field), getattr(other, field)) for field in ("count", "nbytes", *_SUMS)}
        changed = {field: pair for field, pair in both.items() if None not in pair and pair[0] != pair[1]}
        return [_SUMS.get(field, f"{field} was {was} and is {now}") for field, (was, now) in changed.items()]

    def place(self, data_dir: str) -> str:
        """The folder to read the data of a config's `data_dir` from now.

        A relative `data_dir` refers to the folder in which the run was started. If that is not the current folder, the
        recorded absolute path is returned, as long as it exists.
        """
        if not data_dir or not self.where or str(Path(data_dir).expanduser().absolute()) == self.where:
            return data_dir
        return self.where if not Path(data_dir).expanduser().is_absolute() and Path(self.where).exists() else data_dir


def name_of(dataset: str, data_dir: str) -> str:
    """A dataset's name for messages: the name of the folder or list for the user's own files, else the dataset's."""
    own = Path(data_dir).name if dataset in ("folder", "csv") and data_dir else ""
    return own or dataset
