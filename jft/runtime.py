"""What must be set before JAX starts. Programs call `configure()` first; importing the package never does."""

import importlib.metadata
import logging as std_logging
import os
import re
import warnings

from absl import logging

# XLA:CPU of these releases loses 1.3 to 2.9 times to one default, the YNN fusion (jax-ml/jax#39257); README has our
# measurement. XLA aborts on a flag it does not know, so releases nobody has tried are left alone.
CPU_FLAGS = {"--xla_cpu_experimental_ynn_fusion_type": ""}
TRIED_RELEASES = ((0, 10, 2), (0, 11, 0))  # first and last


def configure() -> None:
    """Sets XLA flags that pay on CPU, never over a user's own, and quiets libraries. Call before using JAX."""
    logging.set_verbosity(logging.WARNING)
    # They warn of their own defaults, and tell of one failure many times; what matters of it jft says itself.
    libraries = re.compile("orbax|tensorflow_datasets")
    logging.get_absl_logger().addFilter(lambda record: not libraries.search(record.pathname))
    warnings.filterwarnings("ignore", module="PIL")  # of each broken tag in strangers' files, by the thousand
    # asyncio repeats, after our error and at length, what failed in Orbax's other tasks for the same reason.
    std_logging.getLogger("asyncio").setLevel(std_logging.CRITICAL)
    flags = xla_flags(os.environ.get("XLA_FLAGS", ""), importlib.metadata.version("jaxlib"))
    if flags:
        os.environ["XLA_FLAGS"] = flags


def xla_flags(own: str, jaxlib: str) -> str:
    """The user's own flags and those of ours that they do not set, for a jaxlib release such as '0.10.2'."""
    release = tuple(int(n) for n in re.findall(r"\d+", jaxlib)[:3])
    if not TRIED_RELEASES[0] <= release <= TRIED_RELEASES[1]:
        return own
    set_already = {flag.split("=")[0] for flag in own.split()}
    return " ".join([own, *(f"{k}={v}" for k, v in CPU_FLAGS.items() if k not in set_already)]).strip()
