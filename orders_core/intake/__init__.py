"""Reading people's files: opened safely, read as text, checked field by field, and counted to the last row."""
