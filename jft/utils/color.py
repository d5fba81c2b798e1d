"""Colors by their names."""

from PIL import ImageColor


def check_background(name: str) -> None:
    """Raises a ValueError unless it is empty or an opaque color that `PIL.ImageColor` knows: 'white', '#808080'."""
    try:
        opaque = not name or len(ImageColor.getrgb(name)) == 3
    except ValueError as error:
        raise ValueError(f"background = {name!r}: {error}; give such as 'white' or '#808080'") from error
    if not opaque:
        raise ValueError(f"background = {name!r} is transparent itself: give such as 'white' or '#808080'")
