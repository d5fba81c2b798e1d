"""What the other rooms share: config fields, trees, files, text, devices, processes, checkpoints, logs.

It knows nothing of images, models or training but their words, and imports no other room.
"""
