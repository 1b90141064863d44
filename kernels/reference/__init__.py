"""The step in NumPy, slowly: in float64 the accuracy oracle of every engine, in float32 their bit oracle."""
