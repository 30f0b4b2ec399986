"""Guaranteed here: the head is the minimum of the stated loss, for inputs of any scale, and the same every time."""

import numpy as np
import pytest

from appliance.training.teaching.linear import fit, fit_targets


def separable(scale=1.0, shift=0.0, rows=300):
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 8)) * 4
    classes = np.arange(rows) % 3
    vectors = (centres[classes] + rng.normal(size=(rows, 8))) * scale + shift
    return vectors.astype(np.float32), classes


def loss_of(vectors, classes, weight, bias, l2, scale):
    logits = vectors @ weight + bias
    likely = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    likely -= logits.max(1, keepdims=True)
    return -likely[np.arange(len(classes)), classes].mean() + 0.5 * l2 * ((weight * scale[:, None]) ** 2).sum()


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 0.0), (100.0, 7.0)])
def test_classes_that_can_be_told_apart_are(scale, shift):
    vectors, classes = separable(scale, shift)
    head = fit(vectors, classes, count=3, l2=1e-3)
    assert ((vectors @ head.weight + head.bias).argmax(axis=1) == classes).mean() > 0.99


def test_no_small_change_of_the_head_lowers_the_loss():
    vectors, classes = separable()
    head = fit(vectors, classes, count=3, l2=1e-2)
    scale = vectors.std(axis=0)
    here = loss_of(vectors, classes, head.weight, head.bias, 1e-2, scale)
    assert here == pytest.approx(head.loss, abs=1e-4)
    rng = np.random.default_rng(1)
    for _ in range(50):
        weight = head.weight + rng.normal(size=head.weight.shape) * 0.02 / scale[:, None]
        bias = head.bias + rng.normal(size=head.bias.shape) * 0.02
        assert loss_of(vectors, classes, weight, bias, 1e-2, scale) > here - 1e-5


def test_a_constant_input_is_harmless():
    vectors, classes = separable()
    vectors[:, 3] = 2.5
    head = fit(vectors, classes, count=3, l2=1e-3)
    assert np.isfinite(head.weight).all()


def test_a_class_without_rows_is_never_the_answer():
    vectors, classes = separable()
    head = fit(vectors, classes, count=4, l2=1e-3)
    assert 3 not in (vectors @ head.weight + head.bias).argmax(axis=1)


def test_the_same_rows_give_the_same_head_and_progress_is_told():
    vectors, classes = separable()
    heard = []
    first = fit(vectors, classes, count=3, l2=1e-3, progress=lambda step, loss: heard.append((step, loss)))
    second = fit(vectors, classes, count=3, l2=1e-3)
    assert np.array_equal(first.weight, second.weight)
    assert [step for step, _ in heard] == list(range(1, len(heard) + 1))
    assert heard[-1][1] < heard[0][1]


def test_several_labels_at_once_are_each_told_apart():
    vectors, classes = separable()
    targets = np.stack([classes == 0, classes != 2], axis=1).astype(np.float32)
    head = fit_targets(vectors, targets, l2=1e-3, multi_label=True)
    said = vectors @ head.weight + head.bias > 0
    assert (said == targets.astype(bool)).mean() > 0.99


def test_no_small_change_lowers_the_loss_of_several_labels():
    vectors, classes = separable()
    targets = np.stack([classes == 0, classes != 2], axis=1).astype(np.float32)
    head = fit_targets(vectors, targets, l2=1e-2, multi_label=True)
    scale = vectors.std(axis=0)

    def loss(weight, bias):
        logits = vectors @ weight + bias
        surprise = (np.logaddexp(0, logits) - targets * logits).sum() / len(vectors)
        return surprise + 0.5e-2 * ((weight * scale[:, None]) ** 2).sum()

    here = loss(head.weight, head.bias)
    assert here == pytest.approx(head.loss, abs=1e-4)
    rng = np.random.default_rng(1)
    for _ in range(50):
        weight = head.weight + rng.normal(size=head.weight.shape) * 0.02 / scale[:, None]
        assert loss(weight, head.bias + rng.normal(size=2) * 0.02) > here - 1e-5
