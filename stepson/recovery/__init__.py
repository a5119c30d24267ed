"""What is sound of a damaged file, into a new one."""
