"""Fields about the images: where they come from, how they are read, how they are augmented."""

from jft.utils.color import background_problem
from jft.utils.fields.field import Field, Needs, not_negative, positive, up_to_30

_GTSRB, _CSV = Needs("dataset", ("gtsrb",)), Needs("dataset", ("csv",))
_RAND = Needs("auto_augment", ("rand",))
_STEPS = Needs("solver", ("steps",))

# Ways to read images, `jft.data.feeds`; their batches are the same.
INPUTS = ("auto", "tf.data", "threads", "resident")


DATA = (
    Field("dataset", "cifar10", "cifar10, digits, folder, csv, gtsrb, a name of TensorFlow Datasets; module:function"),
    Field("data_dir", "", "folder of the data, or the CSV file; empty: where TensorFlow Datasets keeps it", place=True),
    Field("image_column", "", "csv: the column of the images' paths; empty: a usual name", needs=(_CSV,)),
    Field("label_column", "", "csv: the column of the labels; empty: a usual name", needs=(_CSV,)),
    Field("classes", (), "names of the classes to keep, relabeled in this order; empty: all", element=str),
    Field(
        "examples_per_class", 0, "training images of each class, drawn by the seed; 0: all of them", check=not_negative
    ),
    Field(
        "validation",
        0.1,
        "held out of the training split, stratified: a share below 1, or a number of images",
        check=not_negative,
    ),
    Field(
        "region_of_interest", True, "gtsrb: only the sign itself, as annotated; False: the whole image", needs=(_GTSRB,)
    ),
    Field("skip_unreadable", False, "leave out images that cannot be read, and name them; False: they are an error"),
    Field(
        "max_image_pixels",
        89_478_485,
        "pixels of an image file at most; a larger one counts as unreadable",
        check=positive,
        place=True,
    ),
    Field(
        "background",
        "white",
        "color behind transparent pixels; empty: alpha is dropped and the hidden colors are read",
        check=background_problem,
    ),
    Field(
        "max_value",
        0.0,
        "value of white in images of more than 8 bits; 0: found from the training images",
        check=not_negative,
    ),
    Field(
        "fit",
        "whole",
        "whole: the image squashed to the square; crop: shorter side resized, square cut out",
        choices=("whole", "crop"),
    ),
    Field("image_size", 0, "side in pixels; 0: what the weights were trained on", check=not_negative),
    Field(
        "resize_on",
        "device",
        "device: raw uint8 images are sent and resized in the jitted step; host: resized before they are sent",
        choices=("device", "host"),
    ),
    Field(
        "cache_bytes",
        4 * 10**9,
        "bytes of decoded images kept in memory; a larger data set is streamed",
        check=not_negative,
        place=True,
    ),
    Field(
        "input",
        "auto",
        "where batches come from: tf.data; threads; resident: images live on the devices; auto: as fits the images",
        choices=INPUTS,
        place=True,
    ),
)

AUGMENTATION = (
    Field("flip", True, "mirror left and right, half of the time"),
    Field(
        "crop_padding",
        0.0,
        "random crop after padding by this share of the side; CIFAR's classic 4 pixels: 0.125",
        check=not_negative,
        needs=(Needs("crop", ("random",)),),
    ),
    Field(
        "crop",
        "random",
        "where fit 'crop' cuts: random; center; five: one of the corners or the center",
        choices=("random", "center", "five"),
        needs=(Needs("fit", ("crop",)),),
    ),
    Field(
        "auto_augment",
        "",
        "trivial (TrivialAugment) or rand (RandAugment); empty: neither",
        choices=("", "trivial", "rand"),
    ),
    Field("rand_operations", 2, "RandAugment: operations on an image", check=positive, needs=(_RAND,)),
    Field("rand_magnitude", 9, "RandAugment: strength, 0 .. 30", check=up_to_30, needs=(_RAND,)),
    Field(
        "augment",
        (),
        "further ones, in order, before normalizing: vertical_flip, color_jitter, random_erasing, module:function",
        element=str,
    ),
    Field(
        "mixup",
        0.0,
        "alpha of the Beta distribution by which pairs of images and labels are mixed; 0: off",
        check=not_negative,
        needs=(_STEPS,),
    ),
    Field(
        "cutmix",
        0.0,
        "the same for a box of one image pasted into another; together with mixup, each half of the time",
        check=not_negative,
        needs=(_STEPS,),
    ),
)
