"""One DICOM object to a scan, after PS3.3 and PS3.5.

The door is ``decode.decode``. It asks ``header`` for what is in the data set, ``rules``
whether this is a whole-body bone scan and which frame is which view, and ``pixels`` for
stored counts, whatever the transfer syntax.
"""
