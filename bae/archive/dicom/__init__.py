"""One DICOM object to a scan, after PS3.3 and PS3.5.

The door is ``decode.decode``. It asks ``parse`` for the data set, ``header`` for what is in
it (by ``elements`` and ``views``), ``layout`` whether the pixel data has that size (by
``lengths`` and ``fragments``), ``rules`` whether this is a whole-body bone scan and which
frame is which view (by ``order``), and ``pixels`` for stored counts, whatever the transfer
syntax (by ``streams`` and ``samples``). Where a header contradicts its own pixels, these
settle it and set a flag, or refuse; ``bae/archive/NOTES.md`` says by what.
"""
