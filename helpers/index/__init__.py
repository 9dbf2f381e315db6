"""A finished index folder: FAISS, manifest, metadata, browser files."""
