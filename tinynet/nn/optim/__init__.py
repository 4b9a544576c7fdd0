"""Optimizers, learning-rate schedules, gradient clipping and the exponential moving average of the weights.

An optimizer turns gradients into changes of the parameters, in place:

    optimizer = Adam(model.parameters(), lr=1e-3)
    schedule = CosineDecay(optimizer, total=1000, warmup=50)
    for images, masks in loader:
        optimizer.zero_grad()
        tn.dice_loss(model(images), masks).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

The update itself stands in the op folders: `ops/adam/reference.py` and `ops/sgd/reference.py` show it in a few lines.
Optimizers, schedules and averages have `state_dict()` and `load_state_dict()`; a run that is resumed with the same
settings gives the same bits as a run that was not interrupted.
"""

from ...engine.foreign import module_getattr
from .average import WeightAverage
from .clipping import clip_grad_norm, clip_grad_value
from .optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from .schedules import CosineDecay, ExponentialDecay, MultiStepDecay, OneCycle, ReduceOnPlateau, Schedule, StepDecay

__getattr__ = module_getattr(__name__)
