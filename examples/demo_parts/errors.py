"""What can go wrong in the demonstration."""


class DemoError(Exception):
    """The demonstration did not show what it is to show; the text is the one line that says why."""
