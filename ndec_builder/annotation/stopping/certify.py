"""`ndec annotate certify`: how far the queue has to be labelled to find a certain share of the hard negatives."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.annotation.label_tables import keys, of_files, of_people
from ndec_builder.annotation.stopping.certificate import new_certificate, open_in_sample, random_sample
from ndec_builder.annotation.stopping.progress import certificate_line
from ndec_builder.annotation.stopping.settings import CertifyConfig
from ndec_builder.annotation.tables import CERTIFICATE_FILE, RELEARNT_FILE, AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import sha256_file, write_json
from ndec_builder.core.workspace import Workspace

# 2: first-round labels of the recorded sample; missed hard negatives; exact bound from gold pairs; 3: a certificate and
# all that replace it share the error
RESULT_VERSION = 3


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: CertifyConfig) -> Path:
    """Write certificate.json, or report on the one that exists; returns its path.

    The ranking is that of `push --order likeliest` at the time of the certificate; later pushes keep it. The sample is
    the longest part of `push --sample`'s random order in which every pair has a label of the first round. Raises
    NdecError before `relearn`, without a blind and labelled sample, and where it holds too few hard negatives.
    """
    record = RunRecord("annotate certify", config, RESULT_VERSION)
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    path, stored = tables.directory / CERTIFICATE_FILE, tables.certificate
    if stored is None or config.again:
        stored = new_certificate(config, tables, 0 if stored is None else stored["replaced"] + 1)
        write_json(path, stored)
        tables.certificate = stored
        inputs = {name: sha256_file(tables.directory / name) for name in ("labels.parquet", RELEARNT_FILE)}
        counts = {name: stored[name] for name in ("pairs", "sample", "positives", "stop", "replaced")}
        record.write(tables.directory, counts=counts, inputs=inputs, name="certificate.run.json")
        _say_cut_short(tables, stored["sample"], stored["drawn"])
        _say_from_files(tables, stored["drawn"])
        if not stored["confirmed"] and stored["false"] > 3:
            say(
                f"up to {stored['false']} of the sample's hard negatives may be wrong labels, which moves the stop "
                "back as far; if no other pair was pushed yet, `double-check --which hard_negative`, pull and "
                "`certify --again` usually name fewer pairs"
            )
    elif (stored["recall"], stored["confidence"]) != (config.recall, config.confidence):
        raise NdecError(
            f"{path} certifies a recall of {stored['recall']:g} with confidence {stored['confidence']:g}, not "
            f"{config.recall:g} with {config.confidence:g}; add --again to replace it"
        )
    elif config.error is not None and (stored["error"], stored["error_source"]) != (config.error, "given"):
        raise NdecError(
            f"{path} counts on an error of {stored['error']:.3f} ({stored['error_source']}), not on the "
            f"{config.error:g} of --error; add --again to replace it"
        )
    say(certificate_line(tables) or "")
    return path


def _say_from_files(tables: AnnotationTables, drawn: int) -> None:
    """Say how many first labels of the sample came with files of pairs: no gold pair measures their errors."""
    names = ("pair_id", "round")
    here, elsewhere = (
        {pair for pair, round_ in keys(labels, *names) if round_ == "first"}
        for labels in (of_people(tables.counting_labels), of_files(tables.counting_labels))
    )
    pairs = set(random_sample(tables, drawn))
    if count := len(pairs & (elsewhere - here)):
        say(
            f"{number_of(count, 'pair')} of the sample only {'has' if count == 1 else 'have'} a label that came with a "
            "file. The certificate assumes that these are as right as labels given here; no gold pair measures that"
        )


def _say_cut_short(tables: AnnotationTables, used: int, drawn: int) -> None:
    """Say why the sample is smaller than what was drawn, and who holds the open pairs."""
    if used >= drawn:
        return
    holders = open_in_sample(tables, random_sample(tables, drawn))
    who = "; ".join(f"{name} has {number} of them open" for name, number in holders.items())
    say(
        f"the sample counts {used:,} of the {drawn:,} pairs drawn: the random order ends at the first pair without a "
        f"first label{f' ({who}; `ndec annotate leave NAME` gives them to others)' if who else ''}"
    )
