"""The flags of the command line: each declared once, and what they must fulfil together."""
