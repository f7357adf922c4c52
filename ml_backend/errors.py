"""Everything Brushloop raises on purpose.

A message names the thing, the place and the way out. Third-party exceptions are
translated at the door of the room that knows the third party.

    BrushloopError
    ├── ConfigError            a setting or a recipe cannot be used
    │   └── UnknownName        a name nobody registered (the message lists those there are)
    ├── DataError              something handed to us is broken
    │   ├── ImageUnreadable    an image that cannot be fetched whole or decoded
    │   ├── MalformedRLE       a brush stream that is not one
    │   ├── RegionError        a region that does not fit its image or its labels
    │   └── LabelConfigError   a labeling config without what we need
    ├── StoreError             the home folder, the bucket or the database
    │   ├── NotFound           a row or a file that should be there is not
    │   ├── PoolMoved          the folder of pool images is gone, and no image is to blame
    │   └── ModelFileError     a model file that is damaged or does not fit
    ├── StudioError            Label Studio
    │   ├── StudioUnreachable  no answer, or a 5xx
    │   └── StudioRefused      an answer that says no: token, permission, validation
    │       └── StudioMissing  what was asked for is not there (404)
    ├── LearningError          training or prediction
    │   ├── NothingToLearn     no usable masks
    │   └── WeightsUnavailable encoder weights that cannot be loaded
    ├── JobError               Redis or the queue
    └── HostError              a process on this machine that we start or look for
"""


class BrushloopError(Exception):
    """The root: catch this to catch whatever Brushloop raises on purpose."""


class ConfigError(BrushloopError):
    """A setting or a recipe cannot be used."""


class UnknownName(ConfigError):
    """A name nobody registered."""


class DataError(BrushloopError):
    """Something handed to us is broken."""


class ImageUnreadable(DataError):
    """An image that cannot be fetched whole or decoded."""


class MalformedRLE(DataError):
    """A brush stream that is not one."""


class RegionError(DataError):
    """A region that does not fit its image or its labels."""


class LabelConfigError(DataError):
    """A labeling config without what we need."""


class StoreError(BrushloopError):
    """The home folder, the bucket or the database."""


class NotFound(StoreError):
    """A row or a file that should be there is not."""


class PoolMoved(StoreError):
    """The folder of pool images is gone, and no image is to blame."""


class ModelFileError(StoreError):
    """A model file that is damaged or does not fit."""


class StudioError(BrushloopError):
    """Label Studio."""


class StudioUnreachable(StudioError):
    """No answer, or an answer that the server itself failed (5xx)."""


class StudioRefused(StudioError):
    """An answer that says no: token, permission, validation."""


class StudioMissing(StudioRefused):
    """What was asked for is not there, or the token's user may not see it."""


class LearningError(BrushloopError):
    """Training or prediction."""


class NothingToLearn(LearningError):
    """No usable masks."""


class WeightsUnavailable(LearningError):
    """Encoder weights that cannot be loaded."""


class JobError(BrushloopError):
    """Redis or the queue."""


class HostError(BrushloopError):
    """A process on this machine that we start or look for."""
