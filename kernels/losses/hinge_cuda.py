from ..numerics_element import double, gate, relu


def hinge(prediction, target, factor, one):
    m = one - target * prediction
    return double(relu(m)), gate(m, factor * -target)
