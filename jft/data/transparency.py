"""What is seen where an image is transparent: a background, not the colors that its file hides there."""

from PIL import Image, ImageColor


def check_background(name: str) -> None:
    """Raises a ValueError unless it is empty or an opaque color that `PIL.ImageColor` knows: 'white', '#808080'."""
    try:
        opaque = not name or len(ImageColor.getrgb(name)) == 3
    except ValueError as error:
        raise ValueError(f"background = {name!r}: {error}; give such as 'white' or '#808080'") from error
    if not opaque:
        raise ValueError(f"background = {name!r} is transparent itself: give such as 'white' or '#808080'")


def without_alpha(image: Image.Image, background: str) -> Image.Image:
    """A loaded image in RGB, over a background; an empty one drops alpha, as torchvision's loader does."""
    if image.has_transparency_data:
        image = image.convert("RGBA")  # convert("RGB") would warn about every palette
        if background:
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image.convert("RGB")
