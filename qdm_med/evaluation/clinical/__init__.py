"""Judge super-resolution by the tasks of a CT physicist: phantoms and slices whose truth is known, in HU throughout."""
