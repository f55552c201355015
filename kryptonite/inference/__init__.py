"""The trained parts joined: feature extraction, verification, submissions."""
