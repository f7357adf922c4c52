"""Which device computes, and in which number format."""

from contextlib import AbstractContextManager, nullcontext

import torch

from ml_backend.errors import ConfigError


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


def native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies bfloat16; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast where the hardware has it, else nothing."""
    if native_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def describe_mode(device: torch.device) -> str:
    """For example `cpu float32 channels_last`: what a prediction was computed with."""
    kind = "bfloat16" if native_bfloat16(device) else "float32"
    return f"{device.type} {kind} channels_last"
