"""Maps aligned crops to identity embeddings."""
