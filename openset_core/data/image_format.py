"""The forms of images that protocols read a data set in, so that it is prepared as they want it."""

from __future__ import annotations

from typing import Any

import attrs

from openset_core.errors import ConfigError, OpensetError
from openset_core.experiment.protocol import load_protocol
from openset_core.registry import Registry, registry


@attrs.frozen(kw_only=True)
class Form:
    """How images are brought to one shape, see `openset_core.experiment.protocol.ImageOptions`.

    Attributes:
        size: side length in pixels.
        interpolation: how images are resized.
        fit: how images become square.
    """

    size: int = 224
    interpolation: str = "bilinear"
    fit: str = "crop"


def wanted_form(
    name: str,
    size: int | None = None,
    interpolation: str | None = None,
    fit: str | None = None,
    plugins: Registry | None = None,
) -> Form:
    """The form of a data set that the installed protocols read; where none does, the usual one.

    Args:
        name: the data set.
        size: what the user chose; None for what the protocols want, and so for the others.
        interpolation: what the user chose.
        fit: what the user chose.
        plugins: where protocols are looked up.

    Raises:
        ConfigError: protocols read it in several forms, and what was chosen fits more than one.
    """
    asked = {"size": size, "interpolation": interpolation, "fit": fit}
    chosen: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    forms = {
        form: protocols
        for form, protocols in forms_in_use(name, plugins).items()
        if chosen.items() <= attrs.asdict(form).items()
    }
    if len(forms) > 1:
        listed = "; ".join(
            f"{form.size} pixels, {form.interpolation}, {form.fit} ({', '.join(protocols)})"
            for form, protocols in sorted(forms.items(), key=lambda item: item[0].size)
        )
        raise ConfigError(
            f"protocols read data set {name} in several forms: {listed}; choose with --size, "
            "--interpolation and --fit"
        )
    return next(iter(forms)) if forms else Form(**chosen)


def forms_in_use(name: str, plugins: Registry | None = None) -> dict[Form, list[str]]:
    """Forms in which installed protocols read a data set, each with their names."""
    found: dict[Form, list[str]] = {}
    for part in (plugins or registry()).of_kind("protocol"):
        try:
            content = load_protocol(part.name, plugins).content
        except OpensetError:
            continue  # `openset protocols` says what is wrong with it
        read = {content.known.dataset, *(unknown.dataset for unknown in content.unknown.values())}
        if name in read:
            image = content.image
            form = Form(
                size=image.size, interpolation=image.interpolation, fit=image.fit or Form().fit
            )
            found.setdefault(form, []).append(part.name)
    return found
