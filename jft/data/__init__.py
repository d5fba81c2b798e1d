"""From images on disk to batches of uint8, and the device functions that prepare them."""
