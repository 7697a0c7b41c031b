"""Files that were damaged or made up, read in one process that is watched; see tests/test_fuzz.py."""
