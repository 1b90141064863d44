def l2_gradient(p, g, two_alpha):
    return g + two_alpha * p
