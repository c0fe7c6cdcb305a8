"""One module a revision, in the order that their `down_revision` gives."""
