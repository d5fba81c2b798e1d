"""Finds the files of a repository of the Hugging Face hub: in a folder, in the hub's cache, in jft's, on the network.

The hub's cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. Its blobs are named by their SHA-256.
"""

import dataclasses
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from jft.utils import json_file
from jft.utils.cache_dir import cache_dir, make_cache_dir
from jft.utils.files import open_regular, written_whole
from jft.utils.version import __version__
from jft.weights.catalog import PREFIX
from jft.weights.download import TIMEOUT

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

_LARGEST = 2**22  # bytes of a config; those with the names of 22,000 classes have half a megabyte
_CARD = 2**16  # bytes of a model card that are looked at
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"({_PART}/{_PART})(?:@({_PART}(?:/{_PART}){{0,3}}))?")
_COMMIT, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_PICKLES = (".bin", ".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".npy", ".h5", ".msgpack")


@dataclasses.dataclass(frozen=True)
class Found:
    """The files of a repository.

    Attributes:
      name: 'hf:timm/resnet18.a1_in1k', or 'hf:/folder' with the absolute path.
      repository: 'timm/resnet18.a1_in1k'; '' of a folder.
      config: the bytes of config.json.
      config_name: what errors call it.
      license: as the model card states it; '' where it does not, or where there is none.
      path: of model.safetensors; '' where it is still to be downloaded.
      sha256: of model.safetensors, if it is known.
      size: of model.safetensors, in bytes.
      revision: commit of the repository; '' of a folder.
    """

    name: str
    repository: str
    config: bytes
    config_name: str
    license: str
    path: str
    sha256: str | None
    size: int
    revision: str = ""

    @property
    def url(self) -> str | None:
        """Address of model.safetensors."""
        return _address(self.repository, self.revision, WEIGHTS) if self.repository else None

    @property
    def main_url(self) -> str:
        """Address of model.safetensors of the newest revision, as the catalog has it."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{WEIGHTS}"

    @property
    def filename(self) -> str:
        """Name of the file: where it is, or where it will be downloaded to."""
        return WEIGHTS if self.path else f"{_local(self.name)}.safetensors"


def find(name: str) -> Found:
    """Finds a repository. Of one that is not on this machine config and facts are downloaded, and kept.

    Args:
      name: 'hf:owner/name', with '@revision' if another than main is meant; or 'hf:/folder', 'hf:./folder' with
        config.json and model.safetensors in it.

    Raises:
      ValueError: no such repository or folder; or one whose files lead out of it, are too large or are pickles.
    """
    place = name.removeprefix(PREFIX)
    if place.startswith(("/", "./", "../", "~")) or place in (".", ".."):
        folder = Path(place).expanduser().absolute()  # a run may be resumed from elsewhere
        return _in_folder(f"{PREFIX}{folder}", folder)
    match = _REPOSITORY.fullmatch(place)
    if match is None or ".." in place:
        raise ValueError(
            f"weights {name!r} name no repository: write hf:owner/name, such as hf:timm/resnet18.a1_in1k, with "
            "@revision behind it if need be, or hf:/path/to/folder."
        )
    repository, revision = match[1], match[2] or "main"
    found = _in_hub_cache(name, repository, revision) or _in_own_cache(name, repository)
    return found or _from_network(name, repository, revision)


def _local(name: str) -> str:
    """A file name for what belongs to a repository."""
    return re.sub(r"[^\w.@-]+", "--", name.removeprefix(PREFIX))


def _in_folder(name: str, folder: Path, repository: str = "", revision: str = "") -> Found:
    if not folder.is_dir():
        raise ValueError(f"{name}: {folder} is no folder: give one with {CONFIG} and {WEIGHTS}.")
    held = sorted(entry.name for entry in folder.iterdir())
    if missing := [wanted for wanted in (CONFIG, WEIGHTS) if wanted not in held]:
        pickles = [entry for entry in held if entry.endswith(_PICKLES)]
        only = f" It has {pickles[0]}, which may be a pickle and is not read from a repository." if pickles else ""
        raise ValueError(f"{name}: {folder} has no {missing[0]}, which a repository of timm has.{only}")
    # Of the hub's cache a snapshot is links to blobs beside it, within the folder of the repository.
    root = folder.resolve()
    root = root.parents[1] if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--") else root
    weights = _within(folder / WEIGHTS, root)
    check_safetensors(weights)
    card = _read(_within(folder / CARD, root), _CARD, cut=True) if (folder / CARD).exists() else b""
    return Found(
        name=name,
        repository=repository,
        config=_read(_within(folder / CONFIG, root), _LARGEST),
        config_name=str(folder / CONFIG),
        license=stated_license(card),
        path=str(folder / WEIGHTS),
        sha256=weights.name if _SHA256.fullmatch(weights.name) else None,
        size=weights.stat().st_size,
        revision=revision,
    )


def _within(path: Path, root: Path) -> Path:
    """The file that a path leads to; ValueError if that lies outside of `root`."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} leads nowhere ({error}): get the repository again.") from error
    if not real.is_relative_to(root):
        raise ValueError(f"{path} leads out of its repository, to {real}: put the file itself there.")
    return real


def check_safetensors(path: Path) -> None:
    """ValueError unless a file begins as safetensors do: of a repository nothing else is read, be it harmless."""
    with open_regular(path) as file:
        head = file.read(9)
    if head[8:] != b"{":
        raise ValueError(f"{path} is no safetensors file, it starts with {head!r}: get the repository again.")


def _read(path: Path, largest: int, cut: bool = False) -> bytes:
    with open_regular(path) as file:
        held = file.read(largest + 1)
    if len(held) > largest and not cut:
        raise ValueError(f"{path} has more than {largest:,} bytes, which no config of a model needs.")
    return held[:largest]


def stated_license(card: bytes) -> str:
    """The license in the head of a model card, 'license: apache-2.0' between two lines '---'; '' if there is none."""
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", card.decode("utf-8", "replace"), re.DOTALL)
    said = dict(
        re.findall(r"^(license|license_name):\s*['\"]?([\w.+ -]{1,80}?)['\"]?\s*$", head[1] if head else "", re.M)
    )
    return said.get("license_name", "other") if said.get("license") == "other" else said.get("license", "")


def hub_cache() -> Path:
    """The folder where huggingface_hub keeps what it has downloaded."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _in_hub_cache(name: str, repository: str, revision: str) -> Found | None:
    root = hub_cache() / f"models--{repository.replace('/', '--')}"
    commit, ref = revision, root / "refs" / revision
    if ref.is_file():
        commit = _read(_within(ref, root.resolve()), 100, cut=True).decode("ascii", "replace").strip()
    if not _COMMIT.fullmatch(commit):
        if ref.exists():
            raise ValueError(f"{ref} holds {commit!r}, which is no commit: delete {root} and download it again.")
        return None
    folder = root / "snapshots" / commit
    # Other programs may have got its config alone.
    whole = all((folder / wanted).exists() for wanted in (CONFIG, WEIGHTS))
    return _in_folder(name, folder, repository, commit) if whole else None


def _facts_file(name: str) -> Path:
    return cache_dir() / "downloads" / f"{_local(name)}.json"


_FACTS = {"config": str, "license": str, "sha256": str, "size": int, "revision": str}


def _in_own_cache(name: str, repository: str) -> Found | None:
    path = _facts_file(name)
    if not path.exists():
        return None
    facts = json_file.parse(_read(path, 2 * _LARGEST), _FACTS, str(path), "delete it to ask the hub again")
    return _of_facts(name, repository, facts)


def _of_facts(name: str, repository: str, facts: dict) -> Found:
    return Found(
        name=name,
        repository=repository,
        config=facts["config"].encode(),
        config_name=_address(repository, facts["revision"], CONFIG),
        license=facts["license"],
        path="",
        sha256=facts["sha256"] or None,
        size=facts["size"],
        revision=facts["revision"],
    )


def _address(repository: str, revision: str, file: str) -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{repository}/resolve/{revision}/{file}"


def _from_network(name: str, repository: str, revision: str) -> Found:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ValueError(f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to ask the hub. {_by_hand(name)}")
    try:
        headers = _headers(_address(repository, revision, WEIGHTS))
        commit = headers.get("x-repo-commit", "")
        commit = commit if _COMMIT.fullmatch(commit) else revision
        config = _get(_address(repository, commit, CONFIG), _LARGEST).decode("utf-8", "replace")
        card = _get(_address(repository, commit, CARD), _CARD, optional=True)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"{name} could not be read from the hub: {_reason(error)}. {_by_hand(name)}") from None
    digest = (headers.get("x-linked-etag") or "").strip('"')
    facts = {
        "config": config,
        "license": stated_license(card),
        "sha256": digest if _SHA256.fullmatch(digest) else "",
        "size": _size(headers.get("x-linked-size") or headers.get("content-length") or "0", name),
        "revision": commit,
    }
    make_cache_dir()
    path = _facts_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as aside:
        aside.write_text(json.dumps(facts))
    return _of_facts(name, repository, facts)


def _size(said: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", said):
        raise ValueError(f"{name}: the hub gives {WEIGHTS} a size of {said[:80]!r} bytes. {_by_hand(name)}")
    return int(said)


def _reason(error: Exception) -> object:
    if isinstance(error, urllib.error.HTTPError):
        told = {
            401: "no such repository, or it asks for a login",
            403: "it asks for a login",
            404: "it has no such file",
        }
        return f"{told.get(error.code, error.reason)} ({error.code}, {error.url})"
    return error.reason if type(error) is urllib.error.URLError else error


def _by_hand(name: str) -> str:
    return f"Download {CONFIG} and {WEIGHTS} elsewhere into a folder, and give hf:/path/to/folder in place of {name}."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The hub tells size and SHA-256 of a large file as it redirects to where it lies."""

    def redirect_request(self, *args: object, **options: object) -> None:
        """None: a redirection is the answer."""


def _request(url: str, method: str = "GET") -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": f"jft/{__version__}"}, method=method)


def _headers(url: str) -> dict[str, str]:
    """The answer's headers, by their names in small letters."""
    try:
        with urllib.request.build_opener(_NoRedirect).open(_request(url, "HEAD"), timeout=TIMEOUT) as response:
            headers = response.headers
    except urllib.error.HTTPError as error:
        if error.code not in (301, 302, 303, 307, 308):
            raise
        headers = error.headers
    return {name.lower(): value for name, value in headers.items()}


def _get(url: str, largest: int, optional: bool = False) -> bytes:
    """What is at an address; b'' of an `optional` file that is not there, whose first bytes are enough."""
    try:
        with urllib.request.urlopen(_request(url), timeout=TIMEOUT) as response:
            held = response.read(largest + 1)
    except urllib.error.HTTPError as error:
        if optional and error.code == 404:
            return b""
        raise
    if len(held) > largest and not optional:
        raise ValueError(f"{url} has more than {largest:,} bytes, which no config of a model needs.")
    return held[:largest]
