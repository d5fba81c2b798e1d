"""The facts of published weight sets, as tables; `catalog` makes its rows of them. Sources stand above each table."""

from jft.data.preprocess import Preprocess

# Bilinear resize of the shorter side to 256 with antialias, central crop of 224, RGB, ImageNet's mean and std.
IMAGENET = Preprocess()
# The second recipe of torchvision crops less (crop_pct 0.965 in timm).
IMAGENET_V2 = Preprocess(resize=232)
# -1 .. 1, as Google trained its Inceptions. torchvision says ImageNet's mean and std here and turns the result into
# -1 .. 1 inside of the network (transform_input), which is the same.
_INCEPTION = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_INCEPTION_V3 = Preprocess(size=299, resize=342, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
# "caffe" mode of keras.applications.imagenet_utils: BGR, gray levels 0 .. 255 minus the mean of ImageNet.
KERAS = Preprocess(channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))
# Caffe's rounded mean. SqueezeNet's prototxt crops 227; of 100 ImageNet images an independent implementation gets 65
# right at 224, as in other rows (83 in the first five), and 63 (85) at 227.
CAFFE = Preprocess(channels="BGR", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))
# The means over each channel of Caffe's mean image, which AlexNet was trained with.
CAFFE_ALEXNET = Preprocess(
    size=227, channels="BGR", scale=1.0, mean=(104.00699, 116.66877, 122.67892), std=(1.0, 1.0, 1.0)
)
# Rows that do not take what is usual in their dialect.
PREPROCESS = {
    "googlenet.torchvision": _INCEPTION,
    "inception_v3.torchvision": _INCEPTION_V3,
    "inception_v3.timm": Preprocess(
        size=299, resize=341, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ),
    "inception_v3.keras": _INCEPTION_V3,
    "inception_v3.keras_notop": _INCEPTION_V3,
}

# torchvision, IMAGENET1K_V1: https://download.pytorch.org/models/{file}.pth. The digits that end the name begin the
# SHA-256 (torch.hub checks them). VGG16's IMAGENET1K_FEATURES is left out on purpose: its classifier is not trained.
TORCHVISION = {
    # model: file, parameters, MiB, top-1, top-5
    "alexnet": ("alexnet-owt-7be5be79", 61_100_840, 233.087, 56.522, 79.066),
    "vgg11": ("vgg11-8a719046", 132_863_336, 506.840, 69.020, 88.628),
    "vgg11_bn": ("vgg11_bn-6002323d", 132_868_840, 506.881, 70.370, 89.810),
    "vgg13": ("vgg13-19584684", 133_047_848, 507.545, 69.928, 89.246),
    "vgg13_bn": ("vgg13_bn-abd245e5", 133_053_736, 507.590, 71.586, 90.374),
    "vgg16": ("vgg16-397923af", 138_357_544, 527.796, 71.592, 90.382),
    "vgg16_bn": ("vgg16_bn-6c64b313", 138_365_992, 527.866, 73.360, 91.516),
    "vgg19": ("vgg19-dcbb9e9d", 143_667_240, 548.051, 72.376, 90.876),
    "vgg19_bn": ("vgg19_bn-c79401a0", 143_678_248, 548.143, 74.218, 91.842),
    "googlenet": ("googlenet-1378be20", 13_004_888, 49.731, 69.778, 89.530),
    "inception_v3": ("inception_v3_google-0cc3c7bd", 27_161_264, 103.903, 77.294, 93.450),
    "resnet18": ("resnet18-f37072fd", 11_689_512, 44.661, 69.758, 89.078),
    "resnet34": ("resnet34-b627a593", 21_797_672, 83.275, 73.314, 91.420),
    "resnet50": ("resnet50-0676ba61", 25_557_032, 97.781, 76.130, 92.862),
    "resnet101": ("resnet101-63fe2227", 44_549_160, 170.511, 77.374, 93.546),
    "resnet152": ("resnet152-394f9c45", 60_192_808, 230.434, 78.312, 94.046),
    "squeezenet1_0": ("squeezenet1_0-b66bff10", 1_248_424, 4.778, 58.092, 80.420),
    "squeezenet1_1": ("squeezenet1_1-b8a52dc0", 1_235_496, 4.729, 58.178, 80.624),
}
TORCHVISION_AUX = ("googlenet", "inception_v3")  # their files hold the auxiliary heads, which are counted here
TORCHVISION_V2 = {
    "resnet50": ("resnet50-11ad3fa6", 25_557_032, 97.790, 80.858, 95.434),
    "resnet101": ("resnet101-cd907fc2", 44_549_160, 170.530, 81.886, 95.780),
    "resnet152": ("resnet152-f82ba261", 60_192_808, 230.474, 82.284, 96.002),
}

# timm publishes torchvision's weights again, as safetensors: https://huggingface.co/timm/{model}.{recipe}. There is no
# AlexNet, GoogLeNet or SqueezeNet, and its Inception has no auxiliary head. Accuracies are torchvision's; timm measured
# those of five models again, within 0.03, and Inception's, read bicubically, 0.18 higher. The hub's other Inceptions
# (tf_in1k, tf_adv_in1k, gluon_in1k) are other trainings and are left out. SHA-256 where known.
TIMM = {
    **{
        model: facts
        for model, facts in TORCHVISION.items()
        if model.startswith(("vgg", "resnet"))  # as torchvision
    },
    "inception_v3": ("inception_v3", 23_834_568, 91.1, 77.294, 93.450),
}
TIMM_SHA256 = {
    "vgg11.tv_in1k": "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5",
    "vgg16.tv_in1k": "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
    "vgg19.tv_in1k": "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
    "inception_v3.tv_in1k": "9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb",
    "resnet18.tv_in1k": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet34.tv_in1k": "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    "resnet50.tv_in1k": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
}

# Keras, https://storage.googleapis.com/tensorflow/keras-applications/{file}_weights_tf_dim_ordering_tf_kernels.h5 and
# …_notop.h5. Only MD5 is published. Keras counts 25 636 712 parameters in ResNet50, with the moving statistics and the
# convolutions' biases, which conversion folds into them; and 23 851 784 in Inception-V3, with the moving statistics
# and without the scale of BatchNorm, which is counted here, though the file leaves it out and it becomes ones. The
# accuracies are keras.io's; users measure others (keras#8672, keras#10040).
KERAS_TOP = {
    # model: file, parameters, MiB, MD5, top-1, top-5
    "vgg16": ("vgg16/vgg16", 138_357_544, 527.8, "64373286793e3c8b2b4e3219cbf3544b", 71.3, 90.1),
    "vgg19": ("vgg19/vgg19", 143_667_240, 548.1, "cbe5617147190e668d6c5d5026f83318", 71.3, 90.0),
    "inception_v3": ("inception_v3/inception_v3", 23_834_568, 91.7, "9a0d58056eeedaa3f26cb7ebd46da564", 77.9, 93.7),
    "resnet50": ("resnet/resnet50", 25_557_032, 98.2, "2cb95161c43110f7111970584f804107", 74.9, 92.1),
    "resnet101": ("resnet/resnet101", 44_549_160, 171.3, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    "resnet152": ("resnet/resnet152", 60_192_808, 231.6, "100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
}
KERAS_NOTOP = {
    "vgg16": ("vgg16/vgg16", 14_714_688, 56.2, "6d6bbae143d832006294945121d1f1fc", None, None),
    "vgg19": ("vgg19/vgg19", 20_024_384, 76.4, "253f8cb515780f3b799900260a226db6", None, None),
    "inception_v3": ("inception_v3/inception_v3", 21_785_568, 83.8, "bcbd6486424b2319ff4ef7d526e38f63", None, None),
    "resnet50": ("resnet/resnet50", 23_508_032, 90.4, "4d473c1dd8becc155b73f8504c6f6626", None, None),
    "resnet101": ("resnet/resnet101", 42_500_160, 163.5, "88cf7a10940856eca736dc7b7e228a21", None, None),
    "resnet152": ("resnet/resnet152", 58_143_808, 223.8, "ee4c566cf9a93f14d82f913c2dc6dd0c", None, None),
}
# As those whose weights these are: Oxford's VGG, Google's Inception, Kaiming He's ResNet.
KERAS_LICENSES = {"vgg": "CC-BY-4.0", "inception": "Apache-2.0", "resnet": "MIT"}
# Keras' VGG pools no other map to 7x7; its average pools do not count the zeros around the map; its ResNet is the
# paper's; and its BatchNorm forgets ten times slower.
KERAS_OPTIONS = {
    "vgg": {"adaptive_pool": False},
    "inception": {"count_include_pad": False, "bn_momentum": 0.99},
    "resnet": {"stride_in_1x1": True, "bn_momentum": 0.99},
}

# What Caffe trained, as {layer: [weights, biases]} in an npy file (caffe-tensorflow writes it). Such copies of the
# caffemodels have no one address, but for AlexNet's, and no published hash; sizes are those of the numbers alone.
# Accuracies, one central crop: github.com/BVLC/caffe models/*/readme.md; keras.io for VGG, the same numbers; the paper
# for SqueezeNet 1.0, of whose 1.1 the authors only say that it does not fall behind.
CAFFE_SETS = {
    # model: file, parameters, MiB, license, top-1, top-5, preprocessing
    "alexnet_caffe": ("bvlc_alexnet.npy", 60_965_224, 232.6, "unrestricted", 57.1, 80.2, CAFFE_ALEXNET),
    "vgg16": ("vgg16.npy", 138_357_544, 527.8, "CC-BY-4.0", 71.3, 90.1, KERAS),
    "vgg19": ("vgg19.npy", 143_667_240, 548.0, "CC-BY-4.0", 71.3, 90.0, KERAS),
    "googlenet_caffe": ("googlenet.npy", 6_998_552, 26.7, "unrestricted", 68.7, 88.9, CAFFE),
    "squeezenet1_0": ("squeezenet_v1.0.npy", 1_248_424, 4.8, "BSD-2-Clause", 57.5, 80.3, CAFFE),
    "squeezenet1_1": ("squeezenet_v1.1.npy", 1_235_496, 6.5, "BSD-2-Clause", None, None, CAFFE),
}
CAFFE_URLS = {"alexnet_caffe": "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy"}
CAFFE_SHA256 = {"squeezenet1_1": "4f2207c551d2ca71c4699709779ca3871b2fe65cdfe6bc9180af16bbad8ec5f5"}
CAFFE_OPTIONS = {
    "vgg16": {"adaptive_pool": False},
    "vgg19": {"adaptive_pool": False},
    "squeezenet1_0": {"head_padding": 1},
}
