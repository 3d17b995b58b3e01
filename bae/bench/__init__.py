"""Speed, beside what one would write without this project.

The door is ``night.run`` (``python -m jobs.benchmark``). ``stages`` costs each stage of a
scan's way alone, ``user_loop`` is the loop to compare with, ``meter`` what a process tree costs.
"""
