"""An archive through decoding and a step, many objects at a time, on Ray.

The door is ``night.run``: list, compare, read, publish; ``plan`` says before what is to do, without
Ray. ``parts`` is the way of each part and
says what runs where, ``deaths`` who died with which part in hand, ``session`` one quiet Ray,
``resources`` what to take of it, ``monitoring`` what operations see. The steps: ``rows`` stages
what was read, ``score`` adds predictions; ``outcomes`` keeps a model's answers for evaluations,
as ``kept`` does for all that is made once, and ``reread`` reads chosen scans again.
"""
