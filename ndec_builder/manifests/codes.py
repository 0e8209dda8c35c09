"""Every finding of `ndec validate`: a stable code, how grave it is, what it means and what to do. Data only.

docs/validation.md is this table; a test compares the two. A code is never given another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"
COPY = "copy the dataset again from where it is whole, or export it again"
EXPORT = "export again; never edit a dataset by hand"
TRUTH = "ingest the ground truth again with all its images, then export"
LEAK = "training on queries or references is forbidden: export again, it leaves them out of training"


@dataclass(frozen=True)
class Code:
    severity: str
    meaning: str
    remedy: str


CODES = {
    "M101": Code(ERROR, "manifest.json lists files outside the dataset", COPY),
    "M102": Code(ERROR, "listed files are missing", COPY),
    "M103": Code(ERROR, "files have another sha256 or size than manifest.json says", COPY),
    "M104": Code(ERROR, "files that manifest.json does not list", "move them elsewhere: a dataset is what it lists"),
    "M105": Code(ERROR, "a table cannot be read as its schema says", COPY),
    "M106": Code(ERROR, "ground_truth.csv does not say what the tables say", EXPORT),
    "M107": Code(ERROR, "ATTRIBUTION.csv does not say what the tables say", EXPORT),
    "M108": Code(ERROR, "README.md does not say what manifest.json says", EXPORT),
    "M109": Code(ERROR, "croissant.json does not say what manifest.json says", EXPORT),
    "M110": Code(ERROR, "CITATION.cff does not say what manifest.json says", EXPORT),
    "M111": Code(ERROR, "manifest.json lacks a key, or one has another type", COPY),
    "M112": Code(ERROR, "the version is no semantic version", "export again with --version like 1.0.0"),
    "M113": Code(ERROR, "a table was made by a newer version of ndec", "install a newer ndec, validate again"),
    "M114": Code(ERROR, "a tar shard cannot be read", COPY),
    "M115": Code(ERROR, "members of a tar climb out of its folder, or are no plain files", "do not unpack it: " + COPY),
    "M116": Code(ERROR, "annotators or labels_by contradict the lineage", EXPORT),
    "M117": Code(ERROR, "pair_folders.csv does not fit train_pairs", EXPORT),
    "M201": Code(ERROR, "counts differ from the tables", EXPORT),
    "M202": Code(ERROR, "a key stands in two rows", "one id an image, one reference a query: mend, export again"),
    "M203": Code(ERROR, "a key is empty", EXPORT),
    "M204": Code(ERROR, "ground truth of unknown queries", TRUTH),
    "M205": Code(ERROR, "ground truth names unknown references", TRUTH),
    "M206": Code(ERROR, "queries without a row in the ground truth", TRUTH),
    "M207": Code(ERROR, "no query has a reference", "make copies with `ndec edit`, or ingest your own"),
    "M208": Code(ERROR, "the kind of queries contradicts the ground truth", EXPORT),
    "M209": Code(ERROR, "the hard_kind of queries contradicts their kind", EXPORT),
    "M210": Code(ERROR, "former images of train_pairs are not in train_basic", EXPORT),
    "M211": Code(ERROR, "latter images of train_pairs are not in train_pair_images", EXPORT),
    "M212": Code(WARNING, "train_pair_images that no pair uses", EXPORT),
    "M213": Code(ERROR, "ids in both train_basic and train_pair_images", "rename one, ingest it again"),
    "M214": Code(ERROR, "pair ids do not fit the direction of their pairs", "former: basic, latter: pool; " + EXPORT),
    "M215": Code(WARNING, "pairs are there in both directions", "the norm term leaves them out: decide for one"),
    "M216": Code(ERROR, "pairs of an image with itself", EXPORT),
    "M217": Code(ERROR, "a pair stands twice under different ids", EXPORT),
    "M218": Code(ERROR, "rows are not in ascending order of their key", EXPORT),
    "M219": Code(ERROR, "sha256 is not 64 hexadecimal digits", "ingest the images again, then export"),
    "M220": Code(ERROR, "images without a uri", EXPORT),
    "M221": Code(ERROR, "an attribution-only dataset names places of images", EXPORT),
    "M222": Code(WARNING, "attribution-only images without a URL", "`ndec fetch` cannot get them: state it"),
    "M223": Code(ERROR, "uris climb out of their folder, or do not point into the packed images", EXPORT),
    "M224": Code(ERROR, "the edit of queries is not JSON", EXPORT),
    "M225": Code(ERROR, "basis or score of pairs is none that can be", EXPORT),
    "M226": Code(ERROR, "rotation is not 0, 90, 180 or 270 degrees", EXPORT),
    "M301": Code(ERROR, "queries have the bytes of a reference that is not their match",
                 "name that reference in the ground truth, or take the image out"),
    "M302": Code(WARNING, "queries with the same bytes", "take one out, or its predictions count twice"),
    "M303": Code(ERROR, "training images have the bytes of queries or references", LEAK),
    "M304": Code(ERROR, "training images share a group with queries or references", LEAK),
    "M305": Code(ERROR, "images have another sha256 than the tables say", "restore them, or ingest and annotate again"),
    "M306": Code(WARNING, "image files are not there",
                 "put them where images_root of manifest.json points; of an attribution-only dataset: `ndec fetch`"),
    "M307": Code(ERROR, "train_pair_images have the bytes of a basic image", "a latter is no basic image: take it out"),
    "M308": Code(WARNING, "images of one table with the same bytes", "ingest each file once"),
    "M309": Code(ERROR, "packed images are missing", COPY),
    "M310": Code(ERROR, "training images have the pixels of queries or references", LEAK),
    "M311": Code(ERROR, "training images are near-duplicates of queries or references", "look, take them out"),
    "M312": Code(WARNING, "images could not be decoded and compared", "restore or fetch them, validate again"),
    "M401": Code(WARNING, "images without a licence", "state it when ingesting, before you publish the dataset"),
    "M402": Code(WARNING, "images that ask for attribution without an author or an address",
                 "state author and landing or original URL when ingesting"),
}  # fmt: skip
