"""`ndec validate`: recompute every count, hash and foreign key of a dataset from its files. Writes nothing."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ValidateConfig
from ndec_builder.manifests.validation.file_checks import (
    check_descriptions,
    check_info,
    check_listed_files,
    read_tables,
)
from ndec_builder.manifests.validation.findings import Finding
from ndec_builder.manifests.validation.image_checks import check_images, check_shards, images_not_compared
from ndec_builder.manifests.validation.label_checks import check_labels
from ndec_builder.manifests.validation.leaks import check_near, check_pixels
from ndec_builder.manifests.validation.table_checks import check_tables

MAX_LISTED = 20  # findings in one error text


def run(config: ValidateConfig) -> Path:
    """Return the dataset's directory when no check fails; warnings go to stderr.

    Raises NdecError listing the errors (code, meaning, remedy), or when the directory is not a dataset.
    """
    findings = all_findings(config)
    for finding in findings:
        if not finding.is_error:
            say(str(finding))
    errors = [str(finding) for finding in findings if finding.is_error]
    if errors:
        more = f"\n… and {len(errors) - MAX_LISTED} more" if len(errors) > MAX_LISTED else ""
        listed = "\n".join(errors[:MAX_LISTED])
        raise NdecError(f"{config.manifest} is not valid, {number_of(len(errors), 'check')} failed:\n{listed}{more}")
    say(f"{config.manifest} is valid: every count, hash and foreign key holds{_not_compared(config, findings)}")
    return config.manifest


def _not_compared(config: ValidateConfig, findings: list[Finding]) -> str:
    """Which hashes nobody computed: those of images that are elsewhere or missing, or all of them."""
    manifest = open_manifest(config.manifest)
    tables = {name: manifest.table(name) for name in IMAGE_TABLES}
    skipped = images_not_compared(tables) if config.images else sum(table.num_rows for table in tables.values())
    skipped += sum(finding.rows for finding in findings if finding.code == "M306" and config.images)
    why = "they are not on this machine" if config.images else "--no-images"
    return f"; {number_of(skipped, 'image was', 'images were')} not compared with the tables ({why})" if skipped else ""


def validate(directory: Path, *, images: bool = True) -> list[Finding]:
    return all_findings(ValidateConfig(directory, images=images))


def all_findings(config: ValidateConfig) -> list[Finding]:
    """Return all findings in the order manifest.json, files, descriptions, tables, images.

    Raises NdecError when it is not a dataset. Stops after unreadable tables.
    """
    manifest = open_manifest(config.manifest)
    findings = list(check_info(manifest.info))
    if findings and any(finding.code == "M111" for finding in findings):
        return findings  # later checks rely on it
    findings += check_listed_files(manifest)
    tables, unreadable = read_tables(manifest)
    if unreadable:
        return findings + unreadable
    findings += check_tables(tables, manifest.info, manifest.form)
    findings += check_descriptions(manifest, tables)
    findings += check_labels(manifest, tables)
    if config.images or config.pixels or config.model:
        findings += check_shards(manifest)
        openable = tables | {name: manifest.table(name) for name in IMAGE_TABLES}
        if config.images:
            findings += check_images(manifest, openable)
        if config.pixels:
            findings += check_pixels(manifest, openable)
        if config.model:
            findings += check_near(manifest, openable, config.model, config.near_duplicate)
    return findings
