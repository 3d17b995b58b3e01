"""The simulated body: solids make bones, bones the skeleton, tissue wraps it.

The doors are ``skeleton.skeleton`` and ``body.place``. Lengths are in millimetres.
"""
