"""An archive through decoding and a last step, many objects at a time, on Ray.

The door is ``night.run``: list, compare, read, publish. ``parts`` is the way of each part,
``session`` one quiet Ray, ``resources`` what to take of it, ``monitoring`` what operations
see. ``score`` is the last step of the nightly job and ``rows`` what it stores; ``outcomes``
and ``kept`` keep a model's answers for evaluations, ``reread`` reads chosen scans again.
"""
