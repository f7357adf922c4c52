"""One machine: the child processes, ports, secrets and locks behind `brushloop up`.

Callers: host/up.py, which orchestrates; nothing else in the package starts processes that
outlive a call.
"""

from ml_backend.host.allocator import ALLOCATOR
from ml_backend.host.label_studio import LabelStudioServer
from ml_backend.host.ports import Ports, free_port
from ml_backend.host.processes import Child, Processes, one_instance, stopped_by_signals
from ml_backend.host.secrets import LocalSecrets, local_secrets

__all__ = [
    "ALLOCATOR",
    "Child",
    "LabelStudioServer",
    "LocalSecrets",
    "Ports",
    "Processes",
    "free_port",
    "local_secrets",
    "one_instance",
    "stopped_by_signals",
]
