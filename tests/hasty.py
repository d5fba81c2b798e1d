"""XLA flags with which the tests, and the programs that they start, compile in a third of the time.

What is compiled so runs slower and may round differently. Tests of what users' compilers do give `AS_USERS`.
"""

import importlib.metadata
import os

# Small programs split into 32 LLVM modules, and fusions emitted through MLIR, take longer to compile than they save.
_SPLIT, _EMITTERS = "--xla_cpu_parallel_codegen_split_count=1", "--xla_cpu_use_fusion_emitters=false"
# XLA aborts on a flag that it does not know; these releases of jaxlib know these.
_KNOWN = {"0.10.2": (_SPLIT, _EMITTERS), "0.12.0.1": (_SPLIT,)}.get(importlib.metadata.version("jaxlib"), ())
FLAGS = " ".join(_KNOWN)
# Compiler options with which one program is compiled as users compile it; see also `optimizing_compiler`.
AS_USERS = {"xla_cpu_use_fusion_emitters": True} if _EMITTERS in _KNOWN else {}


def flags(devices):
    """XLA_FLAGS for a process with this many CPU devices."""
    return f"{FLAGS} --xla_force_host_platform_device_count={devices}"


def environment(devices=1):
    """Environment of a program that a test starts."""
    return {**os.environ, "XLA_FLAGS": flags(devices), "JAX_PLATFORMS": "cpu"}
