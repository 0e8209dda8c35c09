"""Parsers of lists that people and other tools write: ids, pairs, scores, hashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from faults import fuzz_seeds
from faults.fuzz_target import Target, of_file


def _fastdup(path: Path) -> object:
    """fastdup's two files: the damaged one has the names, next to it lie pairs of numbers."""
    from ndec_builder.candidates.outside.pair_files import read_pair_file

    pairs = path.with_name("similarity.csv")
    pairs.write_text("from,to,distance\n0,1,0.5\n")
    return read_pair_file(pairs)


def list_targets() -> Iterator[Target]:
    """Imports what they need."""
    from ndec_builder.candidates.attribution import read_attribution
    from ndec_builder.candidates.outside.pair_files import read_pair_file
    from ndec_builder.core.schemas import QUERIES, table_of
    from ndec_builder.evaluation.predictions import read_predictions
    from ndec_builder.evaluation.query_kinds import read_query_kinds
    from ndec_builder.league.bank.hamming import read_hashes
    from ndec_builder.league.raw_predictions import read_raw
    from ndec_builder.manifests.pair_folders import read_folders
    from ndec_builder.manifests.writing.gather import read_hard_queries
    from ndec_builder.sources.ground_truth import read_ground_truth
    from ndec_builder.sources.readers.image_list import read_lines
    from ndec_builder.sources.readers.openimages_csv import read_batches

    queries = table_of(QUERIES, [{"query_id": name} for name in fuzz_seeds.IDS]).rename_columns(
        ["image_id", *QUERIES.names[1:]]
    )
    rows = {name: row for row, name in enumerate(fuzz_seeds.IDS)}
    truth = fuzz_seeds.texts(
        "query_id,reference_id\na,b\nc,\n", 'a,"b"\n', "\ufeffquery_id,reference_id\r\na.jpg,b.jpg\r\n"
    )
    yield Target("ground truth csv (sources/ground_truth)", truth, of_file("x.csv", read_ground_truth))
    yield Target(
        "ground truth json (sources/ground_truth)",
        fuzz_seeds.texts('{"a": ["b"], "c": []}'),
        of_file("x.json", read_ground_truth),
    )
    yield Target(
        "lists (sources/lists)",
        fuzz_seeds.texts("a.jpg\nhttps://x.example/b.jpg\n"),
        of_file("x.txt", lambda p: read_lines(p, "list")),
    )
    head = (
        "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    )
    row = "000,train,http://x,http://y,http://l,http://a,me,title,12,aa==,http://t,90.0\n"
    yield Target(
        "OpenImages csv (sources/openimages_csv)",
        fuzz_seeds.texts(f"{head}OriginalMD5,Thumbnail300KURL,Rotation\n{row}"),
        of_file("x.csv", lambda path: list(read_batches(path))),
    )
    yield Target(
        "attribution csv (candidates/attribution)",
        fuzz_seeds.texts("image_id,photo_id,url\na,1,https://www.flickr.com/photos/me/1\n"),
        of_file("x.csv", read_attribution),
    )
    yield Target(
        "predictions csv (evaluation/predictions)",
        fuzz_seeds.texts("query_id,reference_id,score\na,b,0.5\nb,c,-1e9\n"),
        of_file("x.csv", lambda path: read_predictions(path, fuzz_seeds.IDS, fuzz_seeds.IDS)),
    )
    pairs = fuzz_seeds.texts("query_id,reference_id,score,label\na,b,0.5,edited_copy\n007,NA,,\n", "a,b\nx,y\n")
    yield Target("pairs csv (outside/pair_files)", pairs, of_file("x.csv", read_pair_file))
    yield Target("pairs csv with labels", pairs, of_file("x.csv", lambda path: read_pair_file(path, "label")))
    yield Target(
        "pairs json (outside/pair_files)",
        fuzz_seeds.texts(
            '{"a": ["b", ["c", 0.5]], "d": []}', '[[{"path": "a"}, {"path": "b"}], [{"path": "a"}, [{"path": "b"}]]]'
        ),
        of_file("x.json", read_pair_file),
    )
    yield Target(
        "pairs jsonl (outside/pair_files)",
        fuzz_seeds.texts('{"query": "a", "match": "b", "score": 1}\n\n{"query": 1, "match": null}\n'),
        of_file("x.jsonl", read_pair_file),
    )
    yield Target("pairs parquet (outside/pair_files)", fuzz_seeds.pairs, of_file("x.parquet", read_pair_file))
    yield Target(
        "names of fastdup (outside/pair_files)",
        fuzz_seeds.texts("index,filename\n0,a.jpg\n1,b.jpg\n"),
        of_file("atrain_features.dat.csv", _fastdup),
    )
    yield Target(
        "kinds of queries csv (evaluation/query_kinds)",
        fuzz_seeds.texts("query_id,kind,hard_kind,group\na,hard_negative,natural,g\nb,distractor,,\n"),
        of_file("x.csv", lambda path: read_query_kinds(path, fuzz_seeds.IDS)),
    )
    yield Target(
        "PDQ hashes csv (league/bank)", fuzz_seeds.texts(f"name,hash\na,{'0f' * 32}\n"), of_file("x.csv", read_hashes)
    )
    yield Target(
        "predictions of a detector csv (league)",
        fuzz_seeds.texts("query_id,reference_id,score\nx/a.jpg,b,0.5\nb,c,nan\n"),
        of_file("x.csv", lambda path: read_raw(path, rows, rows)),
    )
    yield Target(
        "hard queries (manifests/gather)",
        fuzz_seeds.texts("a\n\nb\r\n", "\ufeffa\n"),
        of_file("x.txt", lambda path: read_hard_queries(path, queries)),
    )
    yield Target("folders of pairs (manifests/pair_folders)", fuzz_seeds.texts("a,b\n"), of_file("x.csv", read_folders))
