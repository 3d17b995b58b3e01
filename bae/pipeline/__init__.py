"""An archive through decoding and a step, many objects at a time, on Ray.

The door is ``night.run``: list, compare, read, publish; ``plan`` says before what is to do,
without Ray. ``step`` is what a run over parts is told and gives back, ``parts`` the way of each
part and what runs where, ``cluster`` the Ray it has. The steps: ``rows`` stages what was read,
``score`` adds predictions; ``outcomes`` keeps a model's answers for evaluations, as ``kept`` does
for all that is made once, and ``reread`` reads chosen scans again. ``relabel`` changes rows as a
labels file says.
"""
