"""Predictions as DICOM objects: a Structured Report, a Secondary Capture and a PDF of each scan.

The door is ``exports``. ``source`` is what they share with the scan they are made of, ``sr`` writes
TID 1500, ``picture`` the Secondary Capture, ``document`` the same page as an Encapsulated PDF.
``clinic.md`` is for who opens them.
"""
