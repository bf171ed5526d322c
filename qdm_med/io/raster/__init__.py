"""NIfTI, NRRD and MetaImage files: one file, a regular grid."""
