"""Is it right? Errors, Table 1, figures, and whether the region means anything.

The door is ``run.run``: held-out patients and models in, tables and figures out. ``metrics``
are numbers with intervals over patients, ``scorecard`` what a table of outcomes comes to,
``ridge`` the plainest learner to beat, ``plots`` and ``figure3`` the figures, ``regions`` the
checks of where the networks look.
"""
