"""Which device computes, and in which number format."""

import platform
from contextlib import AbstractContextManager, nullcontext

import torch

from ml_backend.errors import ConfigError

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def resolve_device(name: str) -> torch.device:
    """`auto` → the best device there is; else the named one. Raises `ConfigError`."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; "
            "use auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device {name!r} is not there; use auto or cpu")
    return device


def autocast(device: torch.device, precision: str = "float32") -> AbstractContextManager[object]:
    """Let convolutions and matrix products compute in `precision`, one of `PRECISIONS`."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


def describe_mode(device: torch.device, precision: str = "float32") -> str:
    """For example `cpu bfloat16 channels_last`: what a prediction is computed with."""
    return f"{device.type} {precision} channels_last"


def describe_hardware(device: torch.device) -> str:
    """What decides how fast each number format is: the chip, its abilities, torch, threads."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        known = sorted(key for key, value in abilities.items() if value is True)
        name = f"{platform.machine()} {' '.join(known)}, {torch.get_num_threads()} threads"
    else:
        name = platform.machine()
    return f"{device.type} {name}, torch {torch.__version__}"
