"""The files of a search's folder: where they stand, how they are written, and how they are read back."""
