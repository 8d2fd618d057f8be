"""The profile's sections: frozen types whose fields have one default, a range, a unit and help each.

The help texts are what the form, `aozora-tui check` and the documentation show.
"""

from typing import Annotated

from msgspec import Struct, field

from engine.contract.sections.common import Point, about
from engine.contract.sections.inputs import Data, Folder, Model
from engine.contract.sections.objective import NullCondition, Objective, PredictionType
from engine.contract.sections.optimizing import Ema, MasterKind, Optimizer
from engine.contract.sections.outputs import Preview, Save, Validation
from engine.contract.sections.pacing import Schedule, TextEncoders
from engine.contract.sections.training import Layers, Memory, Train

__all__ = [
    "Data",
    "Ema",
    "Folder",
    "Layers",
    "MasterKind",
    "Memory",
    "Model",
    "NullCondition",
    "Objective",
    "Optimizer",
    "Point",
    "PredictionType",
    "Preview",
    "Profile",
    "Save",
    "Schedule",
    "TextEncoders",
    "Train",
    "Validation",
    "about",
]


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run is told. Sections in the order a person thinks of them."""

    model: Annotated[Model, about("Model", "What is fine-tuned.")]
    data: Annotated[Data, about("Data", "What is learnt from.")]
    objective: Annotated[Objective, about("Objective", "What is learnt.")] = field(default_factory=Objective)
    train: Annotated[Train, about("Training", "How long, how much at once.")] = field(default_factory=Train)
    optimizer: Annotated[Optimizer, about("Optimizer", "How an update is made.")] = field(default_factory=Optimizer)
    schedule: Annotated[Schedule, about("Schedule", "The learning rate over the run.")] = field(
        default_factory=Schedule
    )
    layers: Annotated[Layers, about("Layers", "Which tensors learn.")] = field(default_factory=Layers)
    text_encoders: Annotated[TextEncoders, about("Text encoders", "Whether they learn too.")] = field(
        default_factory=TextEncoders
    )
    ema: Annotated[Ema, about("Average", "A running average of the weights.")] = field(default_factory=Ema)
    memory: Annotated[Memory, about("Memory", "Where things live.")] = field(default_factory=Memory)
    validation: Annotated[Validation, about("Validation", "The loss on pictures that are held out.")] = field(
        default_factory=Validation
    )
    preview: Annotated[Preview, about("Preview", "Pictures while it trains.")] = field(default_factory=Preview)
    save: Annotated[Save, about("Saving", "What is kept.")] = field(default_factory=Save)
