"""Tell the expression on a face, keep what was seen, let operators correct it, learn from that."""

__version__ = "0.1.0"
