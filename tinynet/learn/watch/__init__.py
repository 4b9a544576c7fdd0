"""`python -m tinynet op`: shows the folder of an operation, and checks it whenever one of its files is saved.

targets.py    what can be checked: a kernel by one implementation in one tier, and the files it is built from
checks.py     what is checked and timed
process.py    the processes in which the checks run: new ones for each save, so that edits take effect
workers.py    starts these processes, collects their answers, and says why one ended
show.py       the files and kernels of an op folder, and a table of its kernels
watch.py      the loop that waits for saves
why.py        which version of conv2d runs for a shape, and why
command.py    the command line
"""
