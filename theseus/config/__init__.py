"""The flags of the command line: their declarations, and the rules about several of them."""
