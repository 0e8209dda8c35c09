"""`ndec validate`: recompute every count, hash and foreign key of a dataset from its files alone. Writes nothing."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.manifests.checks import Finding, check_tables
from ndec_builder.manifests.file_checks import check_descriptions, check_files, check_images, read_tables
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ValidateConfig

MAX_LISTED = 20  # findings in one error text


def run(config: ValidateConfig) -> Path:
    """Return the dataset's directory when no check fails; warnings go to stderr.

    Raises NdecError listing the errors (code, what, what to do), or when the directory is no dataset at all.
    """
    findings = validate(config.manifest, images=config.images)
    for finding in findings:
        if finding.severity == "warning":
            say(str(finding))
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        more = f"\n… and {len(errors) - MAX_LISTED} more" if len(errors) > MAX_LISTED else ""
        listed = "\n".join(errors[:MAX_LISTED])
        raise NdecError(f"{config.manifest} is not valid, {len(errors)} checks failed:\n{listed}{more}")
    say(f"{config.manifest} is valid: every count, hash and foreign key holds")
    return config.manifest


def validate(directory: Path, *, images: bool = True) -> list[Finding]:
    """Return all findings in the order files, descriptions, tables, images. Raises NdecError when it is no dataset.

    A dataset with unreadable tables is not looked at any further.
    """
    manifest = open_manifest(directory)
    findings = list(check_files(manifest))
    tables, unreadable = read_tables(manifest)
    if unreadable:
        return findings + unreadable
    findings += check_tables(tables, manifest.info)
    findings += check_descriptions(manifest, tables)
    if images:
        findings += check_images(manifest, tables)
    return findings
