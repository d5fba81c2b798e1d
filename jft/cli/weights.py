"""Lists, downloads, converts, verifies and exports weights. Each command has its own --help.

list [PATTERN]                     list the published weight sets
fetch NAME                         download a set and check its hash
convert SOURCE --out F             convert a weight file or a run to jft's safetensors format
verify [NAME]                      check a set against the original framework's activations, offline
export SOURCE --out F              write a run, a set or a file in torchvision's, timm's or Keras' layout
push SOURCE --repo OWNER/NAME      write a folder that timm opens, and upload it to the Hugging Face hub
"""

import argparse
from pathlib import Path

from jft.cli import main

_MARKS = {True: "ok", False: "FAILED", None: "no verdict"}


def list_sets(args: argparse.Namespace) -> None:
    """Lists the published weight sets: name, parameters, ImageNet accuracy, size, license, and whether it is here."""
    from jft.cli import weights_table

    print(weights_table.table(args.pattern))


def fetch(args: argparse.Namespace) -> None:
    """Downloads weight sets that are not on this machine yet, checks their hashes, and prints their paths."""
    from jft.weights import catalog, hub

    for row in [catalog.choose_set(name) for name in args.name]:
        path, sha256 = hub.fetch(row)
        unknown = "" if row.sha256 or row.md5 else ": nobody has published one to compare it with"
        print(f"{row.name}: {path}\n  SHA-256 {sha256}{unknown}", flush=True)


def convert(args: argparse.Namespace) -> None:
    """Converts a weight file or a run to jft's own safetensors format."""
    from jft.evaluation import open_model
    from jft.utils import files

    files.check_new(args.out, args.force)
    opened = open_model.open_source(args.source, model=args.model, tag=args.weights)
    print(open_model.write_own(opened, args.out, allow_nonfinite=args.allow_nonfinite))


def verify(args: argparse.Namespace) -> None:
    """Verifies weight sets offline: file hash, checksums of all parameters, and activations of every stage."""
    from jft.data import imagenet
    from jft.evaluation.verify_weights import choose_rows
    from jft.evaluation.verify_weights import verify as verify_set

    failed, absent = [], []
    images = imagenet.load(args.imagenet) if args.imagenet else None
    for row in choose_rows(args.name, args.weights_path):
        print(row.name, flush=True)
        parts = set()
        for check in verify_set(row, weights_path=args.weights_path, images=images):
            first, *more = check.text.splitlines()
            print(f"  {check.what:<12}  {_MARKS[check.passed]:<11}  {first}", flush=True)
            print("".join(f"{'':29}{line}\n" for line in more), end="", flush=True)
            failed += [f"{row.name} ({check.what})"] if check.passed is False else []
            parts.add(check.what)
        absent += [] if "conversion" in parts else [row.name]
    if absent:
        print(f"The architecture alone was verified, for want of the file: {', '.join(absent)}.")
    if failed:
        raise ValueError(f"not verified: {', '.join(failed)}.")


def export(args: argparse.Namespace) -> None:
    """Writes weights in torchvision's, timm's or Keras' layout, and checks the file by loading it again."""
    from jft.exporters import state_dict as lib
    from jft.utils import files

    files.check_new(args.out, args.force)
    options = {"format": args.format, "model": args.model, "tag": args.weights, "image_size": args.image_size}
    print(lib.describe(lib.export(args.source, args.out, **options)))


def push(args: argparse.Namespace) -> None:
    """Writes a folder that timm opens (config.json, model.safetensors, model card), and uploads it to the hub.

    timm.create_model("hf-hub:OWNER/NAME", pretrained=True) opens what was uploaded, and "local-dir:FOLDER" the folder.
    """
    from jft.evaluation import open_model
    from jft.exporters import state_dict, timm_repository
    from jft.utils import files

    timm_repository.check_name(args.repo)
    folder = args.out or Path(args.repo.split("/")[1])
    timm_repository.check_folder(folder)
    for name in timm_repository.FILES if folder.is_dir() else ():
        files.check_new(folder / name, args.force)
    files.check_folder(folder, "give another --out")
    opened = open_model.open_source(args.source, model=args.model, tag=args.weights)
    done = timm_repository.write(opened, folder, args.repo)
    print(state_dict.describe(done))
    print(f"folder: {folder} ({', '.join(timm_repository.FILES)}), license {opened.facts.get('license', 'unknown')}")
    print(f'timm.create_model("local-dir:{folder}", pretrained=True) opens it')
    if args.dry_run:
        print(f"not uploaded to {args.repo}, for --dry-run")
    else:
        print(timm_repository.upload(folder, args.repo, private=args.private))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verbs of this verb."""
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(what, name: str) -> argparse.ArgumentParser:  # noqa: ANN001
        added = verbs.add_parser(name, description=what.__doc__)
        added.set_defaults(what=what)
        return added

    listed = verb(list_sets, "list")
    listed.add_argument(
        "pattern",
        nargs="?",
        default="",
        help="part of a name, or a pattern such as 'vgg1?.*'; of a full name also file, address, hash",
    )
    fetched = verb(fetch, "fetch")
    fetched.add_argument("name", nargs="+", help="weight sets, such as vgg19.torchvision or hf:timm/resnet18.a1_in1k")
    verified = verb(verify, "verify")
    verified.add_argument(
        "name", nargs="*", help="weight sets, such as vgg19.torchvision; default: every set on this machine"
    )
    verified.add_argument(
        "--imagenet",
        metavar="DIR",
        help="ImageNet images, named or sorted by WordNet id, to measure accuracy; use validation images",
    )
    verified.add_argument("--weights-path", metavar="PATH", help="weight file, or folder of weight files")

    converted, exported = verb(convert, "convert"), verb(export, "export")
    converted.add_argument("source", help="a .pth, .safetensors, Keras .h5 or Caffe .npy file, or the folder of a run")
    exported.add_argument("source", help="folder of a run, name of a set, or a weight file")
    for added in (converted, exported):
        added.add_argument(
            "--model", metavar="NAME", help="model of the file, such as vgg19; needed if the file does not name it"
        )
        added.add_argument("--weights", metavar="TAG", help="weight set whose layout the file has; default: detected")
        added.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
        added.add_argument("--force", action="store_true", help="replace FILE if it exists")
        main.add_license_argument(added)
        main.add_code_argument(added)
    converted.add_argument("--allow-nonfinite", action="store_true", help="accept weights with NaN or infinity")
    exported.add_argument(
        "--format",
        choices=("torchvision", "timm", "keras"),
        default="torchvision",
        help="layout of the file; default: torchvision",
    )
    pushed = verb(push, "push")
    pushed.add_argument("source", help="folder of a run, name of a set, or a weight file")
    pushed.add_argument("--repo", required=True, metavar="OWNER/NAME", help="the repository on the hub")
    pushed.add_argument("--out", type=Path, metavar="FOLDER", help="the folder to write; default: NAME")
    pushed.add_argument("--dry-run", action="store_true", help="write the folder, and upload nothing")
    pushed.add_argument("--private", action="store_true", help="make the repository private, if it is made")
    pushed.add_argument("--model", metavar="NAME", help="model of a file that does not name it")
    pushed.add_argument("--weights", metavar="TAG", help="weight set whose layout a file has; default: detected")
    pushed.add_argument("--force", action="store_true", help="replace the files of the folder")
    for added in (fetched, verified, pushed):
        main.add_license_argument(added)
    main.add_code_argument(pushed)
    exported.add_argument(
        "--image-size", type=int, metavar="N", help="side of the input in pixels; default: as trained"
    )


def run(args: argparse.Namespace) -> int:
    """Does what was asked."""
    from safetensors import SafetensorError

    try:
        args.what(args)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return 0
