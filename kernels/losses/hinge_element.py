from ..numerics.elementary_element import double, gate, relu


def hinge(prediction, target, /, factor, one):
    m = one - target * prediction
    slope = gate(m, factor * -target)
    return double(relu(m)), slope
