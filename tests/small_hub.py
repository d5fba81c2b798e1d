"""Repositories of timm's with a small network: as folders, in the hub's cache, and on a server that acts as the hub."""

import hashlib
import http.server
import json

import safetensors.numpy

from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.weights import catalog, rules, seeded

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\ntags:\n- timm\nlicense: mit\n---\n# Model card\n\nlicense: cc-by-nc-4.0 is not said here.\n"
CONFIG = {
    "architecture": "convnext_tiny",
    "num_classes": 3,
    "num_features": 64,
    "global_pool": "avg",
    "label_names": ["ash", "beech", "cedar"],
    "pretrained_cfg": {
        **{"tag": "mine", "custom_load": False, "input_size": [3, 32, 32], "test_input_size": [3, 64, 64]},
        **{"interpolation": "bicubic", "crop_pct": 0.95, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]},
        **{"num_classes": 3, "pool_size": [1, 1], "first_conv": "stem.0", "classifier": "head.fc"},
    },
}


def tensors(classes=3):
    """timm's names, of what `small_files.shrink` makes of convnext_tiny."""
    model = create_model("convnext_tiny", num_classes=classes)
    table = rules.rules_for(catalog.find_row("convnext_tiny", "fb"), model)
    return seeded.seeded_torch(rules.source_shapes(table, tree.flatten(abstract_variables(model, 32))))


def files(config=CONFIG, weights=None):
    """{name: bytes} of a repository."""
    held = {"config.json": json.dumps(config).encode(), "README.md": CARD.encode()}
    return held | {"model.safetensors": safetensors.numpy.save(weights or tensors(config.get("num_classes", 3)))}


def write_folder(folder, config=CONFIG, weights=None):
    folder.mkdir()
    for name, content in files(config, weights).items():
        (folder / name).write_bytes(content)
    return folder


def write_cache(cache, repository="you/trees", held=None):
    """As huggingface_hub keeps it: blobs, named by their digest, and links to them in a snapshot; the folder."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name, content in (held or files()).items():
        large = name.endswith(".safetensors")
        digest = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()
        (root / "blobs" / digest).write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{digest}")
    return root


class Hub(http.server.ThreadingHTTPServer):
    """Answers as the hub: large files redirect, with their size and digest; notes what was asked."""

    def __init__(self, repository="you/trees", config=CONFIG):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.repository, self.asked = files(config), repository, []
        self.digest = hashlib.sha256(self.files["model.safetensors"]).hexdigest()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        hub, name = self.server, self.path.rsplit("/", 1)[1]
        hub.asked.append(f"{self.command} {self.path}")
        known = self.path.startswith((f"/{hub.repository}/resolve/main/", f"/{hub.repository}/resolve/{COMMIT}/"))
        if not (known or self.path.startswith("/stored/")) or name not in hub.files:
            return self.send_error(404)
        content = hub.files[name]
        if known and name.endswith(".safetensors"):
            self.send_response(302)
            self.send_header("Location", f"/stored/{name}")
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-ETag", f'"{hub.digest}"')
            self.send_header("Content-Length", "0")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body and not (known and name.endswith(".safetensors")):
            self.wfile.write(content)

    def log_message(self, *_):
        """Says nothing."""
