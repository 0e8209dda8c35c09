"""The codes of `ndec validate`: severity, meaning and remedy of each. Data only.

docs/validation.md lists the same table and a test compares them. A code never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"
COPY = "copy the dataset again from an intact copy, or export it again"
_EXPORT = "export again; never edit a dataset by hand"
_TRUTH = "ingest the ground truth again with all its images, then export"
_LABELS = "export again as a new version: the labels of the workspace say otherwise"
_LEAK = "training on queries or references is forbidden: export again, which leaves them out of training"


@dataclass(frozen=True)
class Code:
    severity: str
    meaning: str
    remedy: str


CODES = {
    "M101": Code(ERROR, "manifest.json lists files outside the dataset", COPY),
    "M102": Code(ERROR, "listed files are missing", COPY),
    "M103": Code(ERROR, "files differ in sha256 or size from manifest.json", COPY),
    "M104": Code(ERROR, "files that manifest.json does not list", "move them out of the dataset folder"),
    "M105": Code(ERROR, "a table cannot be read or does not match its schema", COPY),
    "M106": Code(ERROR, "ground_truth.csv differs from the tables", _EXPORT),
    "M107": Code(ERROR, "ATTRIBUTION.csv differs from the tables", _EXPORT),
    "M108": Code(ERROR, "README.md differs from manifest.json", _EXPORT),
    "M109": Code(ERROR, "croissant.json differs from manifest.json", _EXPORT),
    "M110": Code(ERROR, "CITATION.cff differs from manifest.json", _EXPORT),
    "M111": Code(ERROR, "a key of manifest.json is missing or has the wrong type", COPY),
    "M112": Code(ERROR, "the version is not a semantic version", "export again with a --version like 1.0.0"),
    "M113": Code(ERROR, "a table was made by a newer version of ndec", "install a newer ndec and validate again"),
    "M114": Code(ERROR, "a tar shard cannot be read", COPY),
    "M115": Code(ERROR, "members of a tar leave its folder or are not regular files", "do not unpack it: " + COPY),
    "M116": Code(ERROR, "annotators or labels_by contradict the lineage", _EXPORT),
    "M117": Code(ERROR, "pair_folders.csv does not match train_pairs", _EXPORT),
    "M201": Code(ERROR, "counts differ from the tables", _EXPORT),
    "M202": Code(ERROR, "a key occurs in two rows", "one id per image, one reference per query: correct, export again"),
    "M203": Code(ERROR, "a key is empty", _EXPORT),
    "M204": Code(ERROR, "the ground truth names unknown queries", _TRUTH),
    "M205": Code(ERROR, "the ground truth names unknown references", _TRUTH),
    "M206": Code(ERROR, "queries without a row in the ground truth", _TRUTH),
    "M207": Code(ERROR, "no query has a reference", "make copies with `ndec edit` or ingest your own"),
    "M208": Code(ERROR, "the kind of queries contradicts the ground truth", _EXPORT),
    "M209": Code(ERROR, "the hard_kind of queries contradicts their kind", _EXPORT),
    "M210": Code(ERROR, "former images of train_pairs are missing from train_basic", _EXPORT),
    "M211": Code(ERROR, "latter images of train_pairs are missing from train_pair_images", _EXPORT),
    "M212": Code(WARNING, "train_pair_images that no pair uses", _EXPORT),
    "M213": Code(ERROR, "ids in both train_basic and train_pair_images", "rename one of the two and ingest it again"),
    "M214": Code(ERROR, "pair ids do not match the pairs' direction", "former: basic, latter: pool; " + _EXPORT),
    "M215": Code(WARNING, "pairs are listed in both directions", "the norm term skips them: keep one direction"),
    "M216": Code(ERROR, "pairs of an image with itself", _EXPORT),
    "M217": Code(ERROR, "a pair is listed twice under different ids", _EXPORT),
    "M218": Code(ERROR, "rows are not sorted by their key", _EXPORT),
    "M219": Code(ERROR, "sha256 is not 64 hexadecimal digits", "ingest the images again, then export"),
    "M220": Code(ERROR, "images without a uri", _EXPORT),
    "M221": Code(ERROR, "an attribution-only dataset contains image paths", _EXPORT),
    "M222": Code(WARNING, "attribution-only images without a URL", "`ndec fetch` cannot get them: ingest with URLs"),
    "M223": Code(ERROR, "uris leave their folder or do not point into the packed images", _EXPORT),
    "M224": Code(ERROR, "the edit of a query is not JSON", _EXPORT),
    "M225": Code(ERROR, "basis or score of a pair is impossible", _EXPORT),
    "M226": Code(ERROR, "rotation is not 0, 90, 180 or 270 degrees", _EXPORT),
    "M227": Code(WARNING, "URLs hold a password, token or signature", "revoke them; export again, which removes them"),
    "M301": Code(ERROR, "queries have the bytes of a reference that is not their match",
                 "name that reference in the ground truth, or take the image out"),
    "M302": Code(WARNING, "queries with the same bytes", "remove one, or its predictions count twice"),
    "M303": Code(ERROR, "training images have the bytes of queries or references", _LEAK),
    "M304": Code(ERROR, "training images share a group with queries or references", _LEAK),
    "M305": Code(ERROR, "images differ in sha256 from the tables", "restore them, or ingest and annotate again"),
    "M306": Code(WARNING, "image files are missing",
                 "put them where images_root of manifest.json points; if attribution-only, run `ndec fetch`"),
    "M307": Code(ERROR, "train_pair_images have the bytes of a basic image", "remove it: a latter must not be basic"),
    "M308": Code(WARNING, "images of one table with the same bytes", "ingest each file once"),
    "M309": Code(ERROR, "packed images are missing", COPY),
    "M310": Code(ERROR, "training images have the pixels of queries or references", _LEAK),
    "M311": Code(ERROR, "training images are near-duplicates of queries or references", "inspect them, remove copies"),
    "M312": Code(WARNING, "images could not be decoded and compared", "restore or fetch them and validate again"),
    "M313": Code(ERROR, "distractors that annotators labelled edited_copy or hard_negative", _LABELS),
    "M314": Code(ERROR, "hard negatives that annotators decided to be edited copies", _LABELS),
    "M315": Code(ERROR, "edited copies that annotators decided not to be copies of it", _LABELS),
    "M316": Code(WARNING, "references with the same pixels", "ingest each picture once; a copy of it matches both"),
    "M317": Code(WARNING, "queries with the same pixels", "remove one, or its predictions count twice"),
    "M401": Code(WARNING, "images without a licence",
                 "state it in a metadata.csv next to the pictures or as license in [ingest]; ingest and export again"),
    "M402": Code(WARNING, "images under an attribution licence without author or address",
                 "state author and landing_url in a metadata.csv, then ingest and export again"),
    "M403": Code(WARNING, "readers of the card and of croissant.json expect facts that nobody stated",
                 "state them in [card] of ndec.toml and export again as a new version"),
}  # fmt: skip
