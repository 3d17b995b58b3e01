"""A hospital's archive (PACS) over DICOMweb: exports in, bone scans out. No Ray, no torch.

The doors are ``server.Server`` (one address, three services: ``studies`` and ``instances``
search, ``fetch`` reads, ``store`` writes), ``pull.run`` (fills an archive) and
``server.check`` (is this an address, who asks?). ``report.dicom.exports`` stores through it.
"""
