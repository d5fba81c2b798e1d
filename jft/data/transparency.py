"""Puts a background behind transparent pixels, whose hidden colors in the file are arbitrary."""

from PIL import Image


def without_alpha(image: Image.Image, background: str) -> Image.Image:
    """A loaded image as RGB over a background color; an empty `background` drops alpha like torchvision's loader."""
    if image.has_transparency_data:
        image = image.convert("RGBA")  # convert("RGB") would warn about every palette
        if background:
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy
