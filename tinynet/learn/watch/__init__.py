"""`python -m tinynet op`: looks into the room of an operation, and checks it whenever a file of it is saved.

targets.py    what can be checked: a kernel by one implementation in one tier, and the files it is built from
child.py      the process in which kernels are checked and timed: new for each save, so that edits take effect
workers.py    the other end: starts such processes, asks them, and says why one ended
show.py       what is in a room, and a table of its kernels
watch.py      the loop that waits for saves
command.py    the command line
"""
