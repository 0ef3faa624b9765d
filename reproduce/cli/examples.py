"""The command that makes adversarial examples for the report."""

from reproduce.cli.app import ConfigOption, DeviceOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure


def examples(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Keep the adversarial images of a few test images, of a narrow and of a wide network.

    They are the narrowest and the widest network of the first table of several widths, trained
    and attacked already; what is there is not made again.

    Example: reproduce examples --preset demo
    """
    from reproduce.examples.make import make_examples

    make_examples(_configure(config, preset, sets, device))
