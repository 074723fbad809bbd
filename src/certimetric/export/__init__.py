"""A learned metric in the tools of others: as SQL, and as an ONNX graph."""

from certimetric.export.graph import export_onnx
from certimetric.export.sql import SqlEmbedding, export_sql

__all__ = ["SqlEmbedding", "export_onnx", "export_sql"]
