"""Labelled scans to weights: samples, the loop, Ray Train round it, the card.

The door is ``run``: ``plan`` checks what is asked for, ``train`` carries it out. ``tasks`` say what
each network learns (Eqs. 4-5), ``samples`` are the prepared images that no epoch decodes
again, ``fit`` is training in plain torch, ``loop`` Ray Train round it, ``trackers`` curves
for TensorBoard and MLflow, ``card`` the model's card for readers.
"""
