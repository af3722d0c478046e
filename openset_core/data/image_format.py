"""The square form that images of a data set are brought to, as the protocols want it."""

from __future__ import annotations

from typing import Any

import attrs

from openset_core.errors import ConfigError, OpensetError
from openset_core.experiment.protocol import ImageOptions, load_protocol
from openset_core.registry import Registry, registry


@attrs.frozen(kw_only=True)
class ImageFormat:
    """How images are brought to one shape, see `openset_core.experiment.protocol.ImageOptions`."""

    size: int = 224
    interpolation: str = "bilinear"
    fit: str = "crop"

    @classmethod
    def of(cls, image: ImageOptions) -> ImageFormat:
        return cls(size=image.size, interpolation=image.interpolation, fit=image.fit or "crop")


def choose_format(name: str, plugins: Registry | None = None, **chosen: Any) -> ImageFormat:
    """The format in which the installed protocols read a data set; the default where none does.

    `chosen` holds attributes of `ImageFormat`, None for what the protocols say.
    """
    chosen = {key: value for key, value in chosen.items() if value is not None}
    formats: dict[ImageFormat, list[str]] = {}  # each with the protocols that read the set in it
    for protocol in (plugins or registry()).of_kind("protocol"):
        try:
            content = load_protocol(protocol.name, plugins).content
        except OpensetError:
            continue  # `openset protocols` says what is wrong with it
        item = ImageFormat.of(content.image)
        read = {content.known.dataset, *(unknown.dataset for unknown in content.unknown.values())}
        if name in read and chosen.items() <= attrs.asdict(item).items():
            formats.setdefault(item, []).append(protocol.name)
    if len(formats) > 1:
        listed = "; ".join(
            f"{item.size} pixels, {item.interpolation}, {item.fit} ({', '.join(protocols)})"
            for item, protocols in sorted(formats.items(), key=lambda pair: pair[0].size)
        )
        raise ConfigError(
            f"protocols read data set {name} in several formats: {listed}; choose with --size, "
            "--interpolation and --fit"
        )
    return next(iter(formats), ImageFormat(**chosen))
