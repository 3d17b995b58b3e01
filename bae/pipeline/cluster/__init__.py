"""The Ray that a run has: one quiet ``session``, what of it a run takes (``resources``), who died
with which part in hand (``deaths``), and what operations see of it (``monitoring``).

A night with nothing new imports none of it but ``monitoring``, which needs Ray only to count.
"""
