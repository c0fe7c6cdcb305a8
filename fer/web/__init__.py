"""SHOW: the visitor's page, the operators' console and the server under them."""
