"""Tables: bundled, from CSV, Parquet and LIBSVM files, and from OpenML."""
