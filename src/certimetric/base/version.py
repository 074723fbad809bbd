"""The version of the package: what files that are written say of who wrote them."""

__version__ = "0.1.0"
