"""The evaluated model in other programs' formats."""
