"""What becomes device code. Every function takes ``m``, the target it is compiled for: PTX, this CPU, plain Python."""
