"""SEE: image bytes to faces to expressions."""
