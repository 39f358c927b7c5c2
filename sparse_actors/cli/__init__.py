"""The command line. Importing it is cheap; each command imports what it needs."""


def main() -> None:
    """Run the command line."""
    from .commands import app

    app()
