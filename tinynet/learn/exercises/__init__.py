"""Exercises: write a piece of a framework yourself, and be told what is wrong with it, not only that it is.

    python -m tinynet exercises            the next exercise, and how far you are
    python -m tinynet exercises start ID   writes my_exercises/ID.py, with the task on top
    python -m tinynet exercises check ID   right, wrong (where, and which mistake gives exactly that), or not written
    yet

and in a notebook, with a function of your own: `tinynet.learn.exercises.check("conv-05", backward_input)`.

    course/       one file for each exercise: statement, hints, solution, wrong solutions, probes
    exercise.py   the format of such a file
    judge.py      compares what a learner's functions return with the solution, and names the mistake
    guard.py      reads a learner's file and refuses the library's own kernels
    runner.py     runs a check in a process of its own, with limits; child.py is that process
    progress.py   what was passed, and which hints were seen
    commands.py   the command line; handout.py and use.py are two of its commands
    notebook.py   the check of functions that live in a notebook
"""

import importlib

_HOME = {"check": "notebook", "mine": "use"}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'tinynet.learn.exercises' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tinynet.learn.exercises.{_HOME[name]}"), name)
