"""One command a module; heavy libraries are imported when a command runs, not before."""
