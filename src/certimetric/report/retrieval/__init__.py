"""The view of an audit of embedding models, with pictures or without."""
