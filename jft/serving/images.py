"""The images of a request: out of its body, and decoded. What is refused by its size is not decoded."""

import base64
import binascii
import json
from typing import Any

import numpy as np
from python_multipart import FormParser, exceptions  # pyright: ignore[reportMissingImports]
from python_multipart.multipart import File, parse_options_header  # pyright: ignore[reportMissingImports]

from jft.data import decode
from jft.data.image_file import TooManyPixelsError
from jft.evaluation.predictor import Predictor
from jft.serving.limits import Limits, Refused

TYPES = ("multipart/form-data", "application/json")
_JSON = 'the body is {"images": ["<base64>", ...]}'
_VALUES = 1_000  # of JSON: many empty ones take hundreds of times the memory of their text


def type_of(content_type: str) -> str:
    """The type of a body; `Refused` with 415 unless it is one of `TYPES`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise Refused(415, f"the content type is {kind or 'not given'}: send {' or '.join(TYPES)}.")
    return kind


def parse(body: bytes | bytearray, content_type: str, limits: Limits) -> list[tuple[str, bytes]]:
    """(name, content of the file) of each image of a body; `Refused` with 413 or 422."""
    is_json = type_of(content_type) == "application/json"
    images = _of_json(body, limits) if is_json else _of_form(body, content_type, limits)
    if not images:
        raise Refused(422, "there is no image: send each as a file of a form, or in the list 'images' of JSON.")
    return images


def _check_number(count: int, limits: Limits) -> None:
    if count > limits.images:
        raise Refused(413, f"send at most {limits.images} images in a request.")


def _of_json(body: bytes | bytearray, limits: Limits) -> list[tuple[str, bytes]]:
    if sum(map(body.count, b",[{")) > _VALUES:
        raise Refused(413, f"the body has more than {_VALUES:,} values: {_JSON}, of at most {limits.images} images.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(422, f"the body is no JSON ({error}): {_JSON}.") from None
    texts = found.get("images") if isinstance(found, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(422, f"{_JSON}, and this is something else.")
    _check_number(len(texts), limits)
    try:
        return [(f"image {n}", base64.b64decode(text, validate=True)) for n, text in enumerate(texts, 1)]
    except (binascii.Error, ValueError) as error:
        raise Refused(422, f"an image is no base64 ({error}): {_JSON}.") from None


def _of_form(body: bytes | bytearray, content_type: str, limits: Limits) -> list[tuple[str, bytes]]:
    _, options = parse_options_header(content_type)
    parts: list[Any] = []

    def add(part: Any) -> None:
        parts.append(part)
        _check_number(len(parts), limits)  # while it is read: thousands of tiny parts take much memory

    try:
        parser = FormParser(
            "multipart/form-data",
            on_field=add,
            on_file=add,
            boundary=options.get(b"boundary"),
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
        )
        parser.write(bytes(body))
        parser.finalize()
    except exceptions.FormParserError as error:
        raise Refused(422, f"the form cannot be read ({error}).") from None
    files = [part for part in parts if isinstance(part, File)]
    return [(_name(file.file_name, n), _content(file)) for n, file in enumerate(files, 1)]


def _content(file: File) -> bytes:
    file.file_object.seek(0)
    return file.file_object.read()


def _name(given: bytes | None, number: int) -> str:
    return given.decode("utf-8", "replace") if given else f"image {number}"


def read(model: Predictor, name: str, content: bytes, limits: Limits) -> np.ndarray:
    """An image as the model's square, uint8 [side, side, 3]; `Refused` with 413 or 422."""
    try:
        return decode.decode(content, model.spec, fit=model.fit, name=name, max_pixels=limits.pixels)
    except ValueError as error:
        if isinstance(error.__cause__, TooManyPixelsError):
            raise Refused(413, f"{name} has more than {limits.pixels:,} pixels: shrink it.") from None
        raise Refused(422, " ".join(str(error).split())) from None
