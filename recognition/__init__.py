"""Aligned crops to identity embeddings."""
