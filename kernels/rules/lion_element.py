from ..numerics.elementary_element import flush, sign


def lion(p, g, exp_avg, /, lr, one_minus_beta1, one_minus_beta2, decay):
    p = p * decay - lr * sign(exp_avg + one_minus_beta1 * (g - exp_avg))
    return p, flush(exp_avg + one_minus_beta2 * (g - exp_avg))
