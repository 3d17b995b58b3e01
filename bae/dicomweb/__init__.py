"""A hospital's archive (PACS) over DICOMweb: exports in, bone scans out. No Ray, no torch.

The doors are ``server.Server`` (one address, three services: ``studies`` and ``instances``
search, ``fetch`` reads, ``store`` writes) and ``pull.run`` (fills an archive). ``address`` says
where and who, ``answers`` and ``multipart`` read what comes back. ``report.dicom.exports`` stores
through it; what was tried and measured is in that room's notes.
"""
