"""Exercises: write a piece of a framework yourself, and be told what is wrong with it, not only that it is wrong.

    python -m tinynet exercises                 # the next exercise, and your progress
    python -m tinynet exercises start conv-05   # writes my_exercises/conv-05.py, with the task at its top
    python -m tinynet exercises check conv-05   # right, wrong (where, and which mistake it is), or not written yet

and in a notebook, with a function of your own: `tinynet.exercises.check("conv-05", backward_input)`.

    course/       one file for each exercise: statement, hints, solution, wrong solutions, probes
    exercise.py   the format of such a file; probe.py: what a check runs
    judge.py      compares what a learner's functions return with the solution, and names the mistake
    answers.py    what the solution and the mistakes return; verdict.py: the outcome of a check, as text and HTML
    guard.py      reads a learner's file and refuses the library's own kernels
    runner.py     checks a file; its functions run in a process of their own (child.py), with limits
    wire.py       what goes from one process to the other
    progress.py   what was passed, and which hints were shown
    commands.py   the command line; handout.py, marking.py and use.py are three of its commands
    demonstrations.py, heat_maps.py   what `use` shows
    notebook.py   the check of functions that live in a notebook
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"notebook": ["check"], "use": ["mine"]})
