"""Tables of images and pairs, both layouts of the challenge, submission files, forgeries, the demo's people."""
