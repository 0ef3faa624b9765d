"""Images: sources, one prepared form, batches on the device."""
