"""Reading a brain's raw sections into an atlas store: registration, images, transcripts, the whole build."""
