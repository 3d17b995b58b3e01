"""Predictions as DICOM objects: a Structured Report and a Secondary Capture for each scan.

The door is ``exports``. ``source`` is what both share with the scan they are made of, ``sr``
writes TID 1500, ``picture`` the Secondary Capture. ``clinic.md`` is for who opens them.
"""
