from ..numerics.elementary_element import flush, sqrt


def lamb(p, g, exp_avg, exp_avg_sq, /, one_minus_beta1, beta2, one_minus_beta2, inv_correction1, inv_sqrt_correction2,
         eps, weight_decay, step_size):  # fmt: skip
    m = exp_avg + one_minus_beta1 * (g - exp_avg)
    v = beta2 * exp_avg_sq + one_minus_beta2 * (g * g)
    update = inv_correction1 * m / (sqrt(v) * inv_sqrt_correction2 + eps) + weight_decay * p
    return p - step_size * update, flush(m), flush(v)


def lamb_direction(p, g, exp_avg, exp_avg_sq, /, one_minus_beta1, beta2, one_minus_beta2, inv_correction1,
                   inv_sqrt_correction2, eps, weight_decay):  # fmt: skip
    m = exp_avg + one_minus_beta1 * (g - exp_avg)
    v = beta2 * exp_avg_sq + one_minus_beta2 * (g * g)
    return inv_correction1 * m / (sqrt(v) * inv_sqrt_correction2 + eps) + weight_decay * p
