"""The sub-commands of `fer`, one module for each room."""
