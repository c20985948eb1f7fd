"""What the Makefile needs to set up a checkout and to sum up its tests."""
