"""What is known of where weights come from: a published set is claimed only where the file's hash is the set's.

A file may be laid out as a set's and hold anything: another training, or random numbers. It is read as that set is, and
of its source no more is recorded than its own name and hash.
"""

import dataclasses
from collections.abc import Mapping

from jft.weights.catalog import CATALOG, WeightSet
from jft.weights.hashes import Hashes

UNKNOWN = "unknown (file not recognized)"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What is known of the weights that a model began with.

    Attributes:
      source: name of their file.
      sha256: of the file.
      md5: of the file where the publisher of the set vouches for no SHA-256; else ''.
      read_as: name of the weight set as which it was read: its layout, and its preprocessing; '' where it has none.
      dialect: of the file.
      row: that set, where the file is it: a hash of the file is one that its publisher vouches for; else None.
    """

    source: str
    sha256: str
    md5: str
    read_as: str
    dialect: str
    row: WeightSet | None

    @property
    def license(self) -> str:
        """Of the weights."""
        return self.row.license if self.row else UNKNOWN

    def manifest(self) -> dict[str, str]:
        """As JSON, for a checkpoint or a file of weights; the inverse is `of_manifest`."""
        claimed = {"url": self.row.url or "", "weights": self.row.name} if self.row else {}
        like = {"like": self.read_as} if self.read_as and not self.row else {}
        md5 = {"source_md5": self.md5} if self.md5 else {}
        hashes = {"source": self.source, "source_sha256": self.sha256, **md5}
        return {**hashes, **claimed, **like, "dialect": self.dialect, "license": self.license}

    def facts(self, what: str = "weights") -> dict[str, str]:
        """For people, fact -> text, in order; `what` to call the weights."""
        if self.row:
            known = {what.capitalize(): self.row.name, f"Source of the {what}": self.row.url or self.source}
        else:
            known = {what.capitalize(): f"{self.source} (file not recognized)"}
        known |= {"SHA-256 of their file": self.sha256, f"License of the {what}": self.license}
        if self.read_as and not self.row:
            known[f"Assumed of the {what}"] = f"layout and preprocessing of {self.read_as}"
        return known

    def __str__(self) -> str:
        """In a phrase."""
        if self.row:
            return f"{self.row.name} ({self.source}), license {self.license}"
        assumed = f"; layout and preprocessing assumed to be those of {self.read_as}" if self.read_as else ""
        return f"{self.source}, SHA-256 {self.sha256[:16]}..., license {self.license}{assumed}"


def of_file(source: str, hashes: Hashes, row: WeightSet) -> Provenance:
    """What a file that is read as a set is known to be.

    Args:
      source: the file's name.
      hashes: of the file.
      row: the set, or a row that is none of the catalog's.
    """
    return of_hashes(source, hashes.sha256, hashes.md5 if row.md5 and not row.sha256 else "", row)


def of_hashes(source: str, sha256: str, md5: str, row: WeightSet) -> Provenance:
    """As `of_file`, of a file that need not be here; its MD5 is looked at where the set has no SHA-256."""
    known = row if agree(row, sha256, md5) else None
    return Provenance(source, sha256, md5, row.name if known or row.name in CATALOG else "", row.dialect, known)


def of_manifest(manifest: Mapping[str, str]) -> Provenance | None:
    """What a manifest shows, whatever it claims: older ones named the set as which any file was read.

    Args:
      manifest: of a checkpoint; {} where it began from scratch.

    Returns:
      None for {}.
    """
    if not manifest:
        return None
    sha256, md5 = manifest.get("source_sha256", ""), manifest.get("source_md5", "")
    name = manifest.get("weights") or manifest.get("like", "")
    row = CATALOG.get(name)
    known = row if row and agree(row, sha256, md5) else None
    return Provenance(manifest.get("source", "an unnamed file"), sha256, md5, name, manifest.get("dialect", ""), known)


def settled(manifest: Mapping[str, str]) -> dict[str, str]:
    """A manifest that claims what its hashes show, and no more; {} for {}."""
    found = of_manifest(manifest)
    if found is None:
        return {}
    claims = ("weights", "like", "url", "license", "licence")  # the last before 0.2.0
    return {**{key: value for key, value in manifest.items() if key not in claims}, **found.manifest()}


def agree(row: WeightSet, sha256: str, md5: str) -> bool:
    """Whether hashes of a file, '' where not known, are those that the publisher of a set vouches for."""
    if row.sha256:
        return sha256.startswith(row.sha256)
    return row.md5 is not None and md5 == row.md5
