"""What the other rooms share: trees, files, text, devices, processes, checkpoints, logs.

It knows nothing of images, models or training, and imports no other room.
"""
