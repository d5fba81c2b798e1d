"""Fields about the images: where they come from, how they are read, how they are augmented."""

from jft.utils.color import background_problem
from jft.utils.fields.field import Field, Needs, held_out, not_negative, one_or_more, positive, two_or_more, up_to_30

_GTSRB, _CSV = Needs("dataset", ("gtsrb",)), Needs("dataset", ("csv",))
_RAND = Needs("auto_augment", ("rand",))
_STEPS, _CV = Needs("solver", ("steps",)), Needs("validation", ("cv",))

# Ways to read images, `jft.data.feeds`; their batches are the same.
INPUTS = ("auto", "tf.data", "threads", "resident")


DATA = (
    Field(
        "dataset", "cifar10", "folder, csv, cifar10, gtsrb, digits, a name in TensorFlow Datasets, or module:function"
    ),
    Field("data_dir", "", "folder of the data, or the CSV file; empty: the folder of TensorFlow Datasets", place=True),
    Field("image_column", "", "csv: column with the paths of the images; empty: found by its name", needs=(_CSV,)),
    Field("label_column", "", "csv: column with the labels; empty: found by its name", needs=(_CSV,)),
    Field("classes", (), "classes to keep, relabeled in this order; empty: all", element=str),
    Field(
        "examples_per_class", 0, "training images to use of each class, drawn by the seed; 0: all", check=not_negative
    ),
    Field(
        "validation",
        0.1,
        "training images held out to choose by: a share below 1, or a count; cv: cross-validate, then train on all",
        check=held_out,
        auto=float,
        word="cv",
    ),
    Field("folds", 5, "validation cv: number of folds", check=two_or_more, needs=(_CV,)),
    Field(
        "trained_folds",
        0,
        "validation cv: folds to train, from the first, before the run on all images; 0: each of them",
        check=not_negative,
        needs=(_CV, _STEPS),
    ),
    Field(
        "fold",
        0,
        "validation cv: fold to hold out, from 1, and train on the others; 0: train on all, after a run for each fold",
        check=not_negative,
        needs=(_CV,),
    ),
    Field("region_of_interest", True, "gtsrb: crop images to the annotated sign; False: whole images", needs=(_GTSRB,)),
    Field("skip_unreadable", False, "skip images that cannot be read, with a warning; False: they are an error"),
    Field(
        "max_image_pixels",
        89_478_485,
        "largest number of pixels of an image file; a larger image counts as unreadable",
        check=positive,
        place=True,
    ),
    Field(
        "background",
        "white",
        "color placed behind transparent pixels; empty: drop the alpha channel",
        check=background_problem,
    ),
    Field(
        "max_value",
        0.0,
        "value of white in images with more than 8 bits; 0: found from the training images",
        check=not_negative,
    ),
    Field(
        "fit",
        "whole",
        "whole: squash the image to a square; crop: resize the shorter side, then crop a square",
        choices=("whole", "crop"),
    ),
    Field(
        "image_size",
        0,
        "side of the square input in pixels; 0: as the weights were trained; a phase trains at its own",
        check=not_negative,
        phase=True,
    ),
    Field(
        "resize_on",
        "device",
        "device: resize images in the jitted step; host: resize them before they are sent",
        choices=("device", "host"),
    ),
    Field(
        "cache_bytes",
        4 * 10**9,
        "most bytes of decoded images to keep in memory; a larger data set is streamed",
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
    Field("flip", True, "random horizontal flip, with probability 0.5", phase=True),
    Field(
        "crop_padding",
        0.0,
        "pad by this share of the side, then crop at random; 0.125 is the usual 4 pixels of CIFAR",
        check=not_negative,
        needs=(Needs("crop", ("random",)),),
        phase=True,
    ),
    Field(
        "crop",
        "random",
        "crop of fit = crop: random, center, or five: one of the corners or the center",
        choices=("random", "center", "five"),
        needs=(Needs("fit", ("crop",)),),
        phase=True,
    ),
    Field(
        "resized_crop",
        (),
        "random resized crop: least and largest share of the image's area, such as 0.35 1.0; empty: none",
        element=float,
        phase=True,
    ),
    Field(
        "resized_crop_ratio",
        (),
        "least and largest width / height of random resized crops, such as 0.5 2.0; empty: 3/4 to 4/3",
        element=float,
        needs=(Needs("resized_crop"),),
        phase=True,
    ),
    Field(
        "stored_scale",
        1.0,
        "side of training files in memory, as a multiple of the network's: 1.5 is sharp, in 2.25 times the memory",
        check=one_or_more,
        needs=(Needs("resized_crop"),),
    ),
    Field(
        "auto_augment",
        "",
        "trivial: TrivialAugment; rand: RandAugment; empty: neither",
        choices=("", "trivial", "rand"),
        phase=True,
    ),
    Field("rand_operations", 2, "RandAugment: operations per image", check=positive, needs=(_RAND,), phase=True),
    Field("rand_magnitude", 9, "RandAugment: magnitude, 0 to 30", check=up_to_30, needs=(_RAND,), phase=True),
    Field(
        "augment",
        (),
        "more augmentations in order: vertical_flip, random_erasing, color_jitter(0.2,hue=0.05), module:function",
        element=str,
        phase=True,
    ),
    Field(
        "mixup",
        0.0,
        "mixup: alpha of the Beta distribution of mixing weights; 0: off",
        check=not_negative,
        needs=(_STEPS,),
    ),
    Field(
        "cutmix",
        0.0,
        "CutMix: alpha of the Beta distribution of box areas; with mixup, one of the two at random; 0: off",
        check=not_negative,
        needs=(_STEPS,),
    ),
)
