def dropout(x, bits, threshold, scale, zero):
    return x * scale if bits >= threshold else zero
