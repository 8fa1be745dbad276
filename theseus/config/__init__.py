"""The command line: the declarations of its flags, and the rules on combining them."""
