"""DICOM CT series, found, checked and read; derived series and maps, written."""
