"""Layers of the models that random_model.py makes: names and shapes of their tensors."""


def linear(out, name, o, i, bias=True):
    out[name + ".weight"] = [o, i]
    if bias:
        out[name + ".bias"] = [o]


def norm(out, name, c):
    out[name + ".weight"], out[name + ".bias"] = [c], [c]


def conv(out, name, o, i, *k):
    out[name + ".weight"], out[name + ".bias"] = [o, i, *k], [o]
