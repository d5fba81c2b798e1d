"""What is seen where an image is transparent: a background, not the colors that its file hides there."""

from PIL import Image


def without_alpha(image: Image.Image, background: str) -> Image.Image:
    """A loaded image in RGB, over a background; an empty one drops alpha, as torchvision's loader does."""
    if image.has_transparency_data:
        image = image.convert("RGBA")  # convert("RGB") would warn about every palette
        if background:
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image.convert("RGB")
