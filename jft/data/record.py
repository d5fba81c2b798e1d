"""What a data set is, as a run notes it: by name, by place, by a list that is compared at once, and by content."""

import dataclasses
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jft.data.content import content_digest
from jft.data.source import Source
from jft.utils.checkpoint_info import Meta

# Fields that mean nothing to people -> what it means if they differ.
_SUMS = {
    "labels": "labels are others",
    "names": "names of files are others",
    "digest": "images or labels are others by content",
}


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """One split of a data set. What older checkpoints did not note is None.

    Attributes:
      name: for people: of the dataset, its folder or its list, or what `from_arrays` was told.
      dataset: what `load_source` knows it by; empty: images given in memory, which only their program has.
      where: the absolute path of the data; empty: there is none, or it was not noted.
      count: images.
      labels: CRC-32 of their labels; None: not noted.
      names: CRC-32 of their files' names; 0 of images in memory; None: not noted.
      nbytes: of their files, or of all pixels; None: not noted.
      digest: of content, labels and order, see `content_digest`; None: not known.
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
        """Notes a source.

        Args:
          source: the images.
          dataset: as `load_source` was given it.
          data_dir: likewise.
          content: decode files too, to know them by content; pixels in memory always are.
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
        """Of what `to_json` gave; further keys are passed over."""
        return cls(**{field.name: held[field.name] for field in dataclasses.fields(cls) if field.name in held})

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        return dataclasses.asdict(self)

    def differences(self, other: "DataRecord") -> list[str]:
        """'count was 3 and is 4' for what both know and is not the same; neither name nor place matters."""
        both = {field: (getattr(self, field), getattr(other, field)) for field in ("count", "nbytes", *_SUMS)}
        changed = {field: pair for field, pair in both.items() if None not in pair and pair[0] != pair[1]}
        return [_SUMS.get(field, f"{field} was {was} and is {now}") for field, (was, now) in changed.items()]

    def place(self, data_dir: str) -> str:
        """Where to look for the data of a config's `data_dir` now.

        A relative one is one from the folder in which the run was started; it is absolute here where that is another.
        """
        if not data_dir or not self.where or str(Path(data_dir).expanduser().absolute()) == self.where:
            return data_dir
        return self.where if not Path(data_dir).expanduser().is_absolute() and Path(self.where).exists() else data_dir


def name_of(dataset: str, data_dir: str) -> str:
    """What people call a dataset: one of own files by its folder or list, any other by its name."""
    own = Path(data_dir).name if dataset in ("folder", "csv") and data_dir else ""
    return own or dataset


def trained_on(meta: Meta) -> DataRecord:
    """The images that a run was trained on, as far as its checkpoint tells."""
    if "trained_on" in meta:
        return DataRecord.from_json(meta["trained_on"]["train"])
    config = meta["config"]  # of checkpoints before there was a record
    return DataRecord(
        name=name_of(config["dataset"], config["data_dir"]),
        dataset=config["dataset"],
        where="",
        count=meta["training_pictures"],
        labels=meta.get("training_labels"),
        names=meta.get("training_names"),
    )


def validated_on(meta: Meta) -> DataRecord | None:
    """The images that a run was validated on; None in checkpoints before there was a record."""
    return DataRecord.from_json(meta["trained_on"]["validation"]) if "trained_on" in meta else None


def learnt_from(meta: Meta) -> int:
    """How many images a checkpoint was trained on, those for validation among them where they joined in."""
    joined = meta["history"][-1]["count"] if meta.get("learnt_validation") else 0
    return trained_on(meta).count + joined
