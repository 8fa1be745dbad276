"""The command line's actions."""
