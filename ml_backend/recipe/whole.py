"""The whole recipe, read from YAML; every mistake named by its path."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, model_validator

from ml_backend.errors import ConfigError
from ml_backend.recipe.asking import Scoring, Selection
from ml_backend.recipe.images import Images
from ml_backend.recipe.network import Network
from ml_backend.recipe.prediction import Instances, Prediction
from ml_backend.recipe.pretraining import Pretraining
from ml_backend.recipe.project import Advice, Labels, Loop, Pool
from ml_backend.recipe.section import Section
from ml_backend.recipe.training import Training, Tuning, Validation
from ml_backend.schedule import Step, numbers, stepped

_FOR_EVER = 10**6  # rounds


class Recipe(Section):
    """Everything a project decides."""

    labels: Labels = Labels()
    network: Network = Network()
    pretraining: Pretraining = Pretraining()
    training: Training = Training()
    validation: Validation = Validation()
    prediction: Prediction = Prediction()
    scoring: Scoring = Scoring()
    selection: Selection = Selection()
    pool: Pool = Pool()
    images: Images = Images()
    loop: Loop = Loop()
    advice: Advice = Advice()
    instances: Instances = Instances()
    tuning: Tuning = Tuning()
    schedule: dict[str, Step] = Field(
        {}, description="Settings of the training that change with the rounds, by their paths."
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Recipe":
        try:
            self.at_round(_FOR_EVER)
        except ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(
                f"schedule: training.{fault['loc'][0]} would become {fault['input']:g} one day: "
                f"{fault['msg']}; say with `most` or `least` where it ends"
            ) from None
        return self

    def at_round(self, number: int) -> "Recipe":
        """What a training after round `number` uses: the schedule is carried out, and gone."""
        known = {f"training.{name}": name for name in numbers(Training)}
        strange = [path for path in self.schedule if path not in known]
        if strange:
            raise ValueError(
                f"schedule: {strange[0]} is no number of the training; such are: {', '.join(known)}"
            )
        steps = {known[path]: step for path, step in self.schedule.items()}
        values = stepped(self.training, steps, number, {"patch": max(32, self.network.multiple)})
        training = Training.model_validate(self.training.model_dump() | values)
        return self.model_copy(update={"training": training, "schedule": {}})

    @model_validator(mode="after")
    def _dropout_to_sample(self) -> "Recipe":
        if self.scoring.passes == "mc_dropout" and not self.network.dropout:
            raise ValueError(
                "scoring.passes: mc_dropout samples the network's dropout, and network.dropout "
                "is 0; set it to 0.2, say"
            )
        return self

    def changed(self, changes: Mapping[str, object]) -> "Recipe":
        """Replace keys by their path (`"pool.tile"`); None leaves a key as it is."""
        data = self.model_dump()
        for path, value in changes.items():
            section, key = path.split(".")
            if value is not None:
                data[section][key] = value
        return parse_recipe(data)


def parse_recipe(data: object, where: str = "recipe") -> Recipe:
    """Check `data` (nested mappings). Raises `ConfigError` with the path of each bad key."""
    try:
        return Recipe.model_validate(data if data is not None else {})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'the whole'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(f"{where}: {faults}") from None


def load_recipe(path: Path) -> Recipe:
    """Read a YAML file. Raises `ConfigError` with the file's name and the place in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"recipe {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is not UTF-8 text: {error}") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {path} is not YAML: {error}") from None
    return parse_recipe(data, where=f"recipe {path}")
