"""Tables, splits, pairs and submission files; the demo's people and their forgeries."""
