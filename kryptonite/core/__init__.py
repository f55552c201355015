"""Errors, files, images, devices and the crop contract; imports no other part."""
