"""TensorBoard's files, read again by TensorFlow."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from jft.utils.event_file import EventFile, _checksum


def read(path):
    return [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]


def test_tensorflow_reads_what_is_written(tmp_path):
    first = EventFile(tmp_path / "curves")
    first.scalars(7, {"train/loss": 0.5, "validation/accuracy of é": -2})
    first.scalars(2**40, {"long": 1e30} | {f"tag {n}": n for n in range(300)})
    first.scalars(9, {})
    again = EventFile(tmp_path / "curves", purge_step=200)  # of the same second
    again.scalars(200, {"train/loss": float("inf")})
    first.close(), again.close()
    one, two = sorted((tmp_path / "curves").iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    version, *events, empty = read(one)
    assert version.file_version == "brain.Event:2" and version.wall_time > 1e9 and one.name.startswith("events.out.")
    told = [(event.step, {value.tag: value.simple_value for value in event.summary.value}) for event in events]
    assert told[0] == (7, {"train/loss": 0.5, "validation/accuracy of é": -2})
    assert told[1][0] == 2**40 and len(told[1][1]) == 301 and told[1][1]["tag 299"] == 299
    assert (empty.step, len(empty.summary.value)) == (9, 0)
    _, start, after = read(two)
    assert (start.step, start.session_log.status) == (200, tf.compat.v1.SessionLog.START)
    assert after.step == 200 and after.summary.value[0].simple_value == float("inf")


def test_tensorflow_reads_texts_and_images(tmp_path):
    png = io.BytesIO()
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3)).save(png, "PNG")
    events = EventFile(tmp_path)
    events.text(3, "run", "é\n" * 200)
    events.image(4, "training images", png.getvalue())
    events.close()
    _, text, image = read(next(tmp_path.iterdir()))
    [value] = text.summary.value
    assert (text.step, value.tag, value.metadata.plugin_data.plugin_name) == (3, "run", "text")
    assert tf.make_ndarray(value.tensor).tolist() == [("é\n" * 200).encode()]
    [value] = image.summary.value
    assert (image.step, value.tag) == (4, "training images")
    assert (value.image.height, value.image.width, value.image.colorspace) == (2, 4, 3)
    assert value.image.encoded_image_string == png.getvalue()


def test_the_checksum_is_that_of_the_standard():
    """CRC-32C of RFC 3720, appendix B.4, before the mask of TFRecords."""
    crc = int.from_bytes(_checksum(b"123456789"), "little") - 0xA282EAD8 & 0xFFFFFFFF
    assert (crc << 15 | crc >> 17) & 0xFFFFFFFF == 0xE3069283
