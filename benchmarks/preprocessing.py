"""Compare how ndec prepares pictures with how timm and open_clip prepare them, for 20 models. No weights are needed.

    python benchmarks/preprocessing.py          writes benchmarks/results/preprocessing.md

Mean, standard deviation, input size and interpolation come from the library's own config of the tag. ndec always
squashes the complete picture to the input size (`embeddings/preprocess.py` says why); most libraries cut the borders
off. So the pixels are compared with the library's transform set to squash as well: on a picture that is resized, and on
one that already has the input size.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ndec_builder.embeddings.library_configs import open_clip_config, timm_configs  # noqa: E402
from ndec_builder.embeddings.preprocess import to_pixels  # noqa: E402

TIMM = (
    "resnet50.a1_in1k", "resnet50.tv_in1k", "resnetv2_101.a1h_in1k", "efficientnet_b0.ra_in1k",
    "tf_efficientnet_b4.ns_jft_in1k", "mobilenetv3_large_100.ra_in1k", "convnext_tiny.fb_in22k",
    "vit_base_patch16_224.augreg_in21k", "vit_small_patch14_dinov2.lvd142m", "vit_base_patch16_clip_224.openai",
    "deit3_small_patch16_224.fb_in22k_ft_in1k", "swin_tiny_patch4_window7_224.ms_in1k",
    "eva02_base_patch14_224.mim_in22k", "beit_base_patch16_224.in22k_ft_in22k",
)  # fmt: skip
OPEN_CLIP = (
    ("ViT-B-32", "openai"), ("ViT-B-16", "laion2b_s34b_b88k"), ("RN50", "openai"), ("ViT-B-16-SigLIP", "webli"),
    ("convnext_base_w", "laion2b_s13b_b82k"), ("coca_ViT-B-32", "laion2b_s13b_b90k"),
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """differs: parts of the two configs that are not equal · resized, exact: largest differences in grey levels (1/255)
    on a picture that is resized and on one that is not · theirs: the library's own resizing."""

    name: str
    size: int
    interpolation: str
    differs: tuple[str, ...]
    exact: float
    resized: float
    mean_resized: float
    theirs: str


def picture() -> Image.Image:
    """A photograph of this repository, 16:9."""
    return Image.open(ROOT / "docs" / "images" / "concepts" / "another-moment.jpg").convert("RGB")


def compare_timm(name: str) -> Compared:
    import timm

    architecture, _, tag = name.partition(".")
    ours = timm_configs(architecture)[tag]
    data: dict[str, Any] = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    theirs = timm.data.create_transform(**data | {"crop_mode": "squash", "crop_pct": 1.0}, is_training=False)
    said = {"mean": tuple(data["mean"]), "std": tuple(data["std"]), "size": data["input_size"][-1],
            "interpolation": data["interpolation"]}  # fmt: skip
    own = f"{data['crop_mode']} crop, crop_pct {data['crop_pct']}"
    return _compared(f"timm:{name}", ours, ours.size, said, theirs, own)


def compare_open_clip(architecture: str, tag: str) -> Compared:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    ours = open_clip_config(architecture, tag)
    size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    fields = ("mean", "std", "interpolation", "resize_mode")
    stated = {name: pretrained[name] for name in fields if name in pretrained}
    config = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(size=size), stated))
    own = {"shortest": "shortest side, centre crop", "squash": "squash", "longest": "longest side, padded"}
    squashing = PreprocessCfg(**merge_preprocess_dict(config, {"resize_mode": "squash"}))
    said = {"mean": tuple(config.mean), "std": tuple(config.std), "interpolation": config.interpolation}
    transform = image_transform_v2(squashing, is_train=False)
    return _compared(f"open_clip:{architecture}@{tag}", ours, size, said, transform, own[config.resize_mode])


def _compared(name: str, ours: Any, size: int, said: dict[str, Any], theirs: Any, own: str) -> Compared:
    differs = tuple(key for key, value in said.items() if not np.array_equal(getattr(ours, key), value))
    large = picture()
    small = large.crop((0, 0, min(large.size), min(large.size))).resize((size, size))
    gaps = []
    for image in (small, large):
        pixels = to_pixels(image, (size, size), ours.interpolation).transpose(2, 0, 1) / 255
        mine = (pixels - np.reshape(ours.mean, (3, 1, 1))) / np.reshape(ours.std, (3, 1, 1))
        # in grey levels of the picture: what a difference of the two inputs would be before the normalisation
        gaps.append(np.abs(mine - theirs(image).numpy()) * np.reshape(ours.std, (3, 1, 1)) * 255)
    return Compared(name, size, ours.interpolation, differs, gaps[0].max(), gaps[1].max(), gaps[1].mean(), own)


def table(rows: list[Compared]) -> list[str]:
    lines = [
        "| model | px | interpolation | differences of the configs | picture of that size: max | resized: max, mean | "
        "the library resizes by |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.size} | {row.interpolation} | {', '.join(row.differs) or 'none'} | {row.exact:.2f} | "
        f"{row.resized:.2f}, {row.mean_resized:.3f} | {row.theirs} |"
        for row in rows
    ]
    return lines


def main() -> None:
    from importlib.metadata import version

    rows = [compare_timm(name) for name in TIMM] + [compare_open_clip(*names) for names in OPEN_CLIP]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        "# Preprocessing of 20 models", "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · timm {version('timm')}, open_clip "
        f"{version('open_clip_torch')}, Pillow {version('pillow')} · `python benchmarks/preprocessing.py`", "",
        "Largest differences between the input that ndec makes and the one that the library's own transform makes, in "
        "grey levels (1/255). The transform is set to squash, as ndec does; its own way is in the last column. ndec "
        "squashes because a crop drops content at the borders, which often tells a copy from a hard negative.", "",
        *table(rows), "",
    ]  # fmt: skip
    (ROOT / "benchmarks" / "results" / "preprocessing.md").write_text("\n".join(lines), "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
