"""Files to volumes and back: the only room that knows DICOM tags or NIfTI axes."""
