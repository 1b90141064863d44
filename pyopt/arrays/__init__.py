"""Which engine steps an array, and the memory that pyopt puts beside it."""
