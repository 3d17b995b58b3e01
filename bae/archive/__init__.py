"""Bytes of an archive's objects to scans, each read or refused with a code.

The doors are ``objects.scans`` (DICOM, PNG, TIFF and zip files to scans, in this process),
``sandbox.Decoder`` (the same in ``child``, a process that may hang or crash) and ``intake``
(a listed object to ``Decoded``: fetched, decoded, under its pseudonyms). Beside them:
``files`` says what a file is and takes zip files apart, ``fence`` is what the child may not do,
``labels`` reads ages and sexes from a file, ``inventory`` an S3 Inventory in place of a
listing, ``privacy`` makes pseudonyms, ``refusals`` names every code, ``body`` says where in
an image the body is.

Nothing here imports torch, Ray or DuckDB: decoding workers are many and should be small.
"""
