"""Files to volumes and back; no other room knows DICOM tags or NIfTI axes."""
