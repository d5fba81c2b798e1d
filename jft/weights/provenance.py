"""Provenance of weights. A file counts as a published set only if its hash matches the published one.

A file with the layout of a published set may hold anything, such as weights of another training or random numbers. It
is read like that set, but only its own name and hash are recorded as its source.
"""

import dataclasses
from collections.abc import Mapping

from jft.weights.catalog import CATALOG, WeightSet
from jft.weights.hashes import Hashes

UNKNOWN = "unknown (file not recognized)"

# Of `convert.convert`, part of the cache's manifest: increase it whenever the same file would convert to other leaves.
CONVERTER_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Provenance:
    """The origin of a model's initial weights.

    Attributes:
      source: name of the weight file.
      sha256: SHA-256 of the file.
      md5: MD5 of the file if the set has no published SHA-256; otherwise ''.
      read_as: name of the weight set whose layout and preprocessing were used to read the file; '' if none.
      dialect: dialect of the file.
      row: the published weight set, if the file's hash matches it; otherwise None.
      repository: that the file was read from, 'hf:owner/name@commit' or 'hf:/folder'; '': it is from none.
      stated: license that the repository states.
    """

    source: str
    sha256: str
    md5: str
    read_as: str
    dialect: str
    row: WeightSet | None
    repository: str = ""
    stated: str = ""

    @property
    def license(self) -> str:
        """License of the weights."""
        return self.row.license if self.row else self.stated or UNKNOWN

    def manifest(self) -> dict[str, str]:
        """A dict of strings for a checkpoint or a weight file; the inverse is `of_manifest`."""
        claimed = {"url": self.row.url or "", "weights": self.row.name} if self.row else {}
        like = {"like": self.read_as} if self.read_as and not self.row else {}
        md5 = {"source_md5": self.md5} if self.md5 else {}
        hashes = {"source": self.source, "source_sha256": self.sha256, **md5}
        hashes |= {"repository": self.repository} if self.repository else {}
        return {**hashes, **claimed, **like, "dialect": self.dialect, "license": self.license}

    def facts(self, what: str = "weights") -> dict[str, str]:
        """{fact: text} in order, for reports; `what` is the name for the weights in them."""
        if self.row:
            known = {what.capitalize(): self.row.name, f"Source of the {what}": self.row.url or self.source}
        elif self.repository:
            known = {what.capitalize(): self.repository}
        else:
            known = {what.capitalize(): f"{self.source} (file not recognized)"}
        known |= {"SHA-256 of their file": self.sha256, f"License of the {what}": self.license}
        if self.read_as and not self.row:
            known[f"Assumed of the {what}"] = f"layout and preprocessing of {self.read_as}"
        return known

    def __str__(self) -> str:
        """A one-line summary."""
        if self.row:
            return f"{self.row.name} ({self.source}), license {self.license}"
        if self.repository:
            return f"{self.repository}, SHA-256 {self.sha256[:16]}..., license {self.license} as stated there"
        assumed = f"; layout and preprocessing assumed to be those of {self.read_as}" if self.read_as else ""
        return f"{self.source}, SHA-256 {self.sha256[:16]}..., license {self.license}{assumed}"


def of_file(source: str, hashes: Hashes, row: WeightSet) -> Provenance:
    """The provenance of a file.

    Args:
      source: name of the file.
      hashes: hashes of the file.
      row: the weight set as which the file is read, in the catalog or not.
    """
    return of_hashes(source, hashes.sha256, hashes.md5 if row.md5 and not row.sha256 else "", row)


def of_hashes(source: str, sha256: str, md5: str, row: WeightSet) -> Provenance:
    """The provenance of a file with these hashes, not necessarily here; `md5` is used if the set has no SHA-256."""
    if row.repository:
        return Provenance(source, sha256, "", "", row.dialect, None, row.repository, row.license)
    known = row if agree(row, sha256, md5) else None
    return Provenance(source, sha256, md5, row.name if known or row.name in CATALOG else "", row.dialect, known)


def of_manifest(manifest: Mapping[str, str]) -> Provenance | None:
    """The provenance according to a manifest's hashes. Older manifests may claim a set that the file is not.

    Args:
      manifest: of a checkpoint; {} if the model was trained from scratch.

    Returns:
      The provenance; None for {}.
    """
    if not manifest:
        return None
    sha256, md5 = manifest.get("source_sha256", ""), manifest.get("source_md5", "")
    name = manifest.get("weights") or manifest.get("like", "")
    row = CATALOG.get(name)
    known = row if row and agree(row, sha256, md5) else None
    source, dialect = manifest.get("source", "an unnamed file"), manifest.get("dialect", "")
    repository = "" if known else manifest.get("repository", "")
    stated = manifest.get("license", "") if repository else ""
    return Provenance(source, sha256, md5, name, dialect, known, repository, stated)


def settled(manifest: Mapping[str, str]) -> dict[str, str]:
    """A manifest whose claims are corrected to what its hashes prove; {} for {}."""
    found = of_manifest(manifest)
    if found is None:
        return {}
    claims = ("weights", "like", "url", "license", "licence")  # the last before 0.2.0
    return {**{key: value for key, value in manifest.items() if key not in claims}, **found.manifest()}


def agree(row: WeightSet, sha256: str, md5: str) -> bool:
    """Whether the hashes of a file, '' where unknown, match the published ones of a weight set."""
    if row.sha256:
        return sha256.startswith(row.sha256)
    return row.md5 is not None and md5 == row.md5
