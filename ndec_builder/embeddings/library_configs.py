"""How the models of a library expect their pictures: the configs that timm and open_clip keep for their tags.

A file does not say which tag it belongs to, and the tags of one architecture may differ in mean, standard deviation,
input size, interpolation and activation (open_clip 3.3: 50 of 196 tags have a mean and standard deviation of their own,
27 need QuickGELU; timm 1.0.31: 34 of 313 architectures with several tags differ in mean or standard deviation). So the
tag may be given with the file. Otherwise one config is assumed, and `assumption` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ndec_builder.core.errors import UsageError, nearest

_Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PictureConfig:
    """What a tag fixes: normalisation, resizing, for timm the input size in px, for open_clip QuickGELU."""

    mean: _Triple
    std: _Triple
    interpolation: str
    size: int = 0
    quick_gelu: bool = False

    def __str__(self) -> str:
        numbers = [" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std)]
        size = f", {self.size} px" if self.size else ""
        gelu = ", QuickGELU" if self.quick_gelu else ""
        return f"mean {numbers[0]}, std {numbers[1]}{size}, {self.interpolation}{gelu}"


def open_clip_configs(architecture: str) -> dict[str, PictureConfig]:
    """Tag → config of an open_clip architecture, in the library's order."""
    import open_clip

    return {tag: _open_clip(architecture, tag) for tag in open_clip.list_pretrained_tags_by_model(architecture)}


def open_clip_config(architecture: str, tag: str | None) -> PictureConfig:
    """The config of a tag; for a file without one, the config assumed.

    Assumed is open_clip's default if any tag has it or there are no tags, else the config of the most tags, the first
    of them at a tie. Raises UsageError for an unknown tag.
    """
    configs = open_clip_configs(architecture)
    if tag is not None:
        _check_known("open_clip", architecture, tag, configs)
        return configs[tag]
    default = _open_clip(architecture, "")
    distinct = list(configs.values())
    return default if default in distinct or not distinct else max(distinct, key=distinct.count)


def changed_open_clip_config(architecture: str, tag: str | None, from_file: bool) -> list[Any]:
    """Empty where version 0.1.0 used the same config, so that descriptors made with it stay valid."""
    try:
        now = open_clip_config(architecture, tag)
    except UsageError:
        return []  # loading the model says what is wrong
    default = _open_clip(architecture, "")
    before = default if from_file else now
    old = (before.mean, before.std, "bicubic", default.quick_gelu)
    new = (now.mean, now.std, now.interpolation, now.quick_gelu)
    return [] if old == new else [new]


def timm_configs(architecture: str) -> dict[str, PictureConfig]:
    """Tag → config of a timm architecture, the default tag first."""
    import timm

    found = {}
    for name in sorted(timm.list_models(f"{architecture}.*", pretrained=True) or []):
        config: Any = timm.get_pretrained_cfg(name)
        found[name.partition(".")[2]] = PictureConfig(
            tuple(config.mean), tuple(config.std), config.interpolation or "bicubic", config.input_size[-1]
        )
    default = getattr(timm.get_pretrained_cfg(architecture), "tag", None)
    return {tag: found[tag] for tag in sorted(found, key=lambda tag: tag != default)}


def check_timm_tag(architecture: str, tag: str) -> None:
    """Raises UsageError for a tag that timm does not have."""
    _check_known("timm", architecture, tag, timm_configs(architecture))


def assumption(name: str, kind: str, architecture: str) -> str:
    """What is assumed about a weights file given without a tag, and the alternatives; empty if there are none."""
    if kind == "open_clip":
        configs, chosen = open_clip_configs(architecture), open_clip_config(architecture, None)
        form = f"open_clip:{architecture}@TAG@FILE"
    else:
        configs, form = timm_configs(architecture), f"timm:{architecture}.TAG@FILE"
        if not configs:
            return ""
        chosen = next(iter(configs.values()))
    others: dict[PictureConfig, list[str]] = {}
    for tag, config in configs.items():
        if config != chosen:
            others.setdefault(config, []).append(tag)
    if not others:
        return ""
    same = [tag for tag, config in configs.items() if config == chosen]
    listed = "; ".join(f"{', '.join(tags)}: {config}" for config, tags in others.items())
    return (
        f"{name} does not say how its pictures were prepared. Assuming {chosen}"
        f"{f' (as {chr(44).join(same)})' if same else ''}. Other weights of this architecture need: {listed}. "
        f"To choose, write {form}"
    )


def _open_clip(architecture: str, tag: str) -> PictureConfig:
    import open_clip

    config: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    own: dict[str, Any] = open_clip.get_model_config(architecture) or {}
    return PictureConfig(
        tuple(config.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        tuple(config.get("std") or open_clip.OPENAI_DATASET_STD),
        config.get("interpolation") or "bicubic",
        quick_gelu=bool(own.get("quick_gelu") or config.get("quick_gelu")),
    )


def _check_known(kind: str, architecture: str, tag: str, configs: dict[str, PictureConfig]) -> None:
    if tag not in configs:
        raise UsageError(
            f"{kind} has no tag {tag!r} of {architecture}{nearest(tag, configs, '.')} It has: "
            f"{', '.join(configs) or 'none'}"
        )
