"""Feeds: ways from the images of a source to batches. All yield the same batches, byte for byte.

What an image is, and in which order images are read, is decided before: a feed only reads them in time.
"""
