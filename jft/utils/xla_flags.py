"""XLA flags that pay on CPU. Importing jft sets them: XLA reads its environment once, when JAX's backend starts.

XLA's CPU backend loses to one of its own defaults, the YNN fusion (jax-ml/jax#39257). XLA aborts on a flag it does not
know, so a release of jaxlib that nobody has measured is left alone, and `jft doctor` and the start of a run say so.
"""

import dataclasses
import functools
import os
import sys
import warnings
from collections.abc import Iterable

CPU_FLAGS = {"--xla_cpu_experimental_ynn_fusion_type": ""}
OPT_OUT = "JFT_PLAIN_XLA"  # environment variable; anything but 0 and nothing leaves XLA_FLAGS alone

# jaxlib release -> how many times faster CPU_FLAGS make a forward pass, by scripts/measure_xla_flags.py, which also
# says how this table is made. They are set where that is above 1.
MEASURED = {
    "0.10.2": 1.8,
    "0.12.0.1": 1.3,
}


@dataclasses.dataclass(frozen=True)
class Decision:
    """The state of XLA's flags in this process.

    Attributes:
      flags: what XLA_FLAGS is to be.
      told: a phrase for people.
      slow: whether a forward pass on CPU may be slower than it could be, and nobody asked for that.
    """

    flags: str
    told: str
    slow: bool = False


def decide(own: str, jaxlib: str, *, opt_out: str = "", started: bool = False) -> Decision:
    """The user's flags, and those of `CPU_FLAGS` that the user does not set.

    Args:
      own: the user's XLA_FLAGS.
      jaxlib: the release, such as '0.10.2'.
      opt_out: the value of the variable `OPT_OUT`.
      started: whether JAX's CPU backend has started, so that it is too late.
    """
    names = [flag.split("=")[0] for flag in own.split()]
    ours = " ".join(f"{name}={value}" for name, value in CPU_FLAGS.items() if name not in names)
    if not ours:
        return Decision(own, "XLA_FLAGS sets them already")
    if opt_out not in ("", "0"):
        return Decision(own, f"left alone, as {OPT_OUT} asks")
    if jaxlib not in MEASURED:
        return Decision(
            own,
            f"left alone: jaxlib {jaxlib} is not among the releases they were measured with ({', '.join(MEASURED)}), "
            "and XLA aborts on a flag it does not know. There they make a forward pass up to "
            f"{max(MEASURED.values())} times faster: measure with scripts/measure_xla_flags.py, and set "
            f"XLA_FLAGS='{ours}' if they pay",
            slow=True,
        )
    if MEASURED[jaxlib] <= 1:
        return Decision(own, f"left alone: they do not pay with jaxlib {jaxlib}")
    if started:
        return Decision(
            own,
            f"not set: JAX's backend had started before jft was imported, and a forward pass on CPU is about "
            f"{MEASURED[jaxlib]} times slower than it could be. Import jft first, or start with XLA_FLAGS='{ours}' "
            f"({OPT_OUT}=1 says that this is meant)",
            slow=True,
        )
    return Decision(f"{own} {ours}".strip(), f"{ours}, measured {MEASURED[jaxlib]} times faster with jaxlib {jaxlib}")


@functools.cache
def apply() -> Decision:
    """Sets XLA_FLAGS once, for this process and its children; warns if XLA has already read them."""
    import importlib.metadata

    own, started = os.environ.get("XLA_FLAGS", ""), _cpu_has_started()
    try:
        jaxlib = importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return Decision(own, "left alone: jaxlib is not installed")
    found = decide(own, jaxlib, opt_out=os.environ.get(OPT_OUT, ""), started=started)
    if found.flags != own:
        os.environ["XLA_FLAGS"] = found.flags
    if started and found.slow:
        warnings.warn(f"XLA's flags for CPU are {found.told}.", RuntimeWarning, stacklevel=3)
    return found


def _cpu_has_started() -> bool:
    """JAX has no public way to ask this without starting a backend."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    backends: Iterable[str] = getattr(bridge, "_backends", ())
    return "cpu" in backends
