"""Methods that do better than rounding to nearest with one scale for all, one file for each."""
