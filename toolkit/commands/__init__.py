"""The commands, one file a subject. Nothing heavy is imported at the top of any of them."""
