"""What is told to a user, and not shown as a traceback."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave cannot be used: the message names it and says what is allowed. Exit code 2."""
