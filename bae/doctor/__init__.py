"""Would tonight's run work? Places, clock, key, model, machine, cluster and what last night left.

The door is ``examine.examine``: places by URI -> ``Finding`` values, one for each thing looked at,
with what was found and what to do about it. It needs neither Ray nor torch, unless ``RAY_ADDRESS``
names a cluster, and leaves nothing behind. ``finding`` is that value; ``places`` tries what storage
must be able to do, ``upkeep`` looks at the tables, ``weights`` at a model's folder, ``machine`` at
the computer it runs on, ``nodes`` at each of a cluster. ``jobs.doctor`` prints them.
"""
