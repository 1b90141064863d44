from ..numerics.elementary_element import flush, maximum, sqrt


def adam(p, g, exp_avg, exp_avg_sq, max_exp_avg_sq, /, one_minus_beta1, beta2, one_minus_beta2, step_size,
         inv_sqrt_correction2, eps, decay):  # fmt: skip
    m = exp_avg + one_minus_beta1 * (g - exp_avg)
    v = beta2 * exp_avg_sq + one_minus_beta2 * (g * g)
    if max_exp_avg_sq is None:
        return p * decay - step_size * (m / (sqrt(v) * inv_sqrt_correction2 + eps)), flush(m), flush(v), None
    largest = maximum(max_exp_avg_sq, v)
    p = p * decay - step_size * (m / (sqrt(largest) * inv_sqrt_correction2 + eps))
    return p, flush(m), flush(v), flush(largest)


def adam_steps(exp_avg_sq, max_exp_avg_sq, /, step_size, inv_sqrt_correction2, eps):
    largest = exp_avg_sq if max_exp_avg_sq is None else max_exp_avg_sq
    return step_size / (sqrt(largest) * inv_sqrt_correction2 + eps)
