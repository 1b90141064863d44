from ..numerics.elementary_element import double, gate, relu


def squared_hinge(prediction, target, /, factor, one):
    m = one - target * prediction
    h = relu(m)
    slope = gate(m, factor * (h * -target))
    return double(h) * double(h), slope
