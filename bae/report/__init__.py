"""What people outside the project open: one HTML page, and DICOM objects for viewers.

The doors are ``page.build`` (a cohort and its last run on one page) and ``dicom.exports``
(Structured Report and Secondary Capture of each prediction). ``counts`` are the page's
numbers, ``charts`` its figures, ``drift`` whether this run is like the last ones.
"""
