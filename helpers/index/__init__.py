"""A finished index folder: FAISS, manifest, metadata, the browser's files."""
