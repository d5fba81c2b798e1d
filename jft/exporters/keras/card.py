"""What a Keras or LiteRT file says of itself: the model card and the class names, in a ZIP archive within the file.

A .keras file is a ZIP archive already. LiteRT files carry theirs at the end, as
https://ai.google.dev/edge/litert/conversion/tensorflow/metadata says; interpreters do not read that far.
"""

import zipfile
from pathlib import Path

from jft.exporters.format import Described, code_block
from jft.exporters.model_card import int8_section, model_card
from jft.exporters.onnx.int8 import Judged
from jft.exporters.opened import Opened

CARD, LABELS = "README.md", "labels.txt"
_DATE = (1980, 1, 1, 0, 0, 0)  # the same file whenever it is written


def pack(path: Path, name: str, opened: Opened, judged: Judged | None = None) -> None:
    """Adds the model card, and the class names, a line each in the order of the outputs.

    Args:
      path: the whole file.
      name: what it will be called, with its suffix.
      opened: the run.
      judged: figures of a quantized network.
    """
    usage = _keras if name.endswith(".keras") else _lite
    form = Described(name, lambda info, metrics: usage(name), complete=True)
    card = model_card(opened.trained.info, opened.evaluation, [name], [form])
    if judged is not None:
        card += int8_section(f"The weights and activations of {name} have 8 bits; {judged}.")
    labels = "".join(f"{' '.join(label.split())}\n" for label in opened.predictor.class_names)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(CARD, _DATE), card)
        archive.writestr(zipfile.ZipInfo(LABELS, _DATE), labels)


def _keras(name: str) -> list[str]:
    return code_block(
        *("import keras", ""),
        f"probabilities = keras.models.load_model({name!r}).predict(images)",
    )


def _lite(name: str) -> list[str]:
    return code_block(
        *("import tensorflow as tf", ""),
        f"network = tf.lite.Interpreter({name!r})",
        "network.allocate_tensors()",
        'network.set_tensor(network.get_input_details()[0]["index"], images[:1])  # one image at a time',
        "network.invoke()",
        'probabilities = network.get_tensor(network.get_output_details()[0]["index"])',
    )
