"""XLA flags with which the tests, and the programs that they start, compile in a third of the time.

What is compiled so runs slower and may round differently. Tests of what users' compilers do give `AS_USERS`.
"""

import importlib.metadata
import os

# XLA aborts on a flag that it does not know; these releases of jaxlib know them.
KNOWN = importlib.metadata.version("jaxlib") in ("0.10.2", "0.12.0.1")
# Fusions emitted through MLIR, and small programs split into 32 LLVM modules, take longer to compile than they save.
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1" if KNOWN else ""
# Compiler options with which one program is compiled as users compile it; see also `optimizing_compiler`.
AS_USERS = {"xla_cpu_use_fusion_emitters": True} if KNOWN else {}


def flags(devices):
    """XLA_FLAGS for a process with this many CPU devices."""
    return f"{FLAGS} --xla_force_host_platform_device_count={devices}"


def environment(devices=1):
    """Environment of a program that a test starts."""
    return {**os.environ, "XLA_FLAGS": flags(devices), "JAX_PLATFORMS": "cpu"}
