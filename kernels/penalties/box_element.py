def box_prox(p, step, /, low, high):
    p = low if p <= low else p
    return high if p >= high else p
