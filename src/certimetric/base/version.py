"""The version of the package: what files that are written say of who wrote them."""

__version__ = "1.0.0rc1"
