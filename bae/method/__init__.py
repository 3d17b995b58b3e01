"""Scans to ages on plain tensors, without Ray: the paper's networks, and a linear model.

The door is ``predictor.Predictor``: ``Predictor.load(model_uri).predict(scans)`` gives
``prediction.Prediction``. ``regional`` is the linear model; the steps of the paper's networks
are one module each: ``image`` (counts to network input), ``networks`` on ``trunks``,
``heatmap`` (Eqs. 1-2), ``boxes`` (Eq. 3), ``calibration``. ``model`` is the folder that holds
weights and card, ``weights`` brings ImageNet's, ``fused`` makes trunks fast, ``hardware``
says what there is to run on. ``PAPER.md`` says which line of the paper is where.
"""
