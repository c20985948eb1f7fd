"""Container images: their names, where they come from, and the store that has them on disk."""
