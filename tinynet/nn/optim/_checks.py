"""Checks of the arguments of optimizers and schedules. Each raises ValueError."""

import math


def check_unit(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {argument} is {value}; it must lie in 0 <= {argument} < 1")


def check_not_negative(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: {argument} is {value}; it must be finite and not negative")


def check_positive(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {argument} is {value}; it must be positive")


def check_steps(name: str, **values: int) -> None:
    for argument, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: {argument} is {value}; it must be at least 1")
