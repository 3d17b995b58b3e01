"""Scans to ages: the paper's method on plain tensors, without Ray and without tables.

The door is ``predictor.Predictor``: ``Predictor.load(model_uri).predict(scans)``. Its steps
are one module each: ``image`` (counts to network input), ``networks`` on ``trunks``,
``heatmap`` (Eqs. 1-2), ``boxes`` (Eq. 3), ``calibration``. ``model`` is the folder that holds
weights and card, ``weights`` brings ImageNet's, ``fused`` makes trunks fast, ``hardware``
says what there is to run on. ``PAPER.md`` says which line of the paper is where.
"""
