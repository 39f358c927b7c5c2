"""Journal, image slabs and the NeXus file."""
