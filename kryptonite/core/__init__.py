"""Errors, atomic files, image decoding, and the contract between crops and models; imports no other part."""
