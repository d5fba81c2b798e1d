"""Colors by their names."""


def background_problem(name: str) -> str:
    """What is wrong with a color for transparent pixels: '' of '' and of an opaque one that `PIL.ImageColor` knows."""
    from PIL import ImageColor

    try:
        opaque = not name or len(ImageColor.getrgb(name)) == 3
    except ValueError as error:
        return f"{error}; give a color such as 'white' or '#808080'"
    return "" if opaque else "it is transparent itself; give a color such as 'white' or '#808080'"


def check_background(name: str) -> None:
    """Raises a ValueError that names the field, the value and a remedy, unless `background_problem` is ''."""
    if problem := background_problem(name):
        raise ValueError(f"background = {name!r}: {problem}")
