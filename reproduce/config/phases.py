"""Training on images of growing size, as Fast-AT on ImageNet does."""

from reproduce.config.fields import Count, Epochs, Section


class Phase(Section):
    """A part of a training run whose images have one size."""

    epochs: Epochs
    """Passes over the training images in this phase."""
    batch_size: Count
    """Images a step, over all GPUs together."""
    crop: Count
    """Height and width that a random part of an image is resized to, in pixels."""
    resize: Count | None = None
    """Resize the shorter side of every image to this many pixels before that; null for not."""
