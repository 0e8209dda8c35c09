from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.annotation.staleness import stale_results
from ndec_builder.candidates.mine import run
from ndec_builder.candidates.settings import MineConfig, recommended_top
from ndec_builder.core.errors import UsageError
from ndec_builder.core.schemas import CANDIDATES, IMAGES, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, sha256_file, write_json, write_table
from ndec_builder.manifests.writing.labelled_pairs import labelled_images
from support.pictures import crop, scene, write_scenes

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


def stored(workspace, role):
    directory = workspace.embeddings(role, MODEL)
    ids = read_table(directory / "part-00000.parquet")["image_id"].to_pylist()
    return dict(zip(ids, np.load(directory / "part-00000.npy").astype(np.float64), strict=True))


def test_pairs_scores_and_duplicates(mined):
    directory = run(MineConfig(mined.root, top=4, max_per_query=2, max_per_reference=3))
    table = read_table(directory / "candidates.parquet")
    assert table.schema.equals(CANDIDATES, check_metadata=True)
    rows = table.to_pylist()
    pool, gallery, basic = (stored(mined, role) for role in ("pool", "reference", "basic"))
    everything = sorted((-np.float32(p @ r), q, s) for q, p in pool.items() for s, r in gallery.items())
    want, per_query, per_reference = [], {}, {}
    for score, query, reference in everything:
        if per_query.get(query, 0) < 2 and per_reference.get(reference, 0) < 3 and len(want) < 5:
            per_query[query] = per_query.get(query, 0) + 1
            per_reference[reference] = per_reference.get(reference, 0) + 1
            want.append((query, reference, -score))
    assert [(row["query_id"], row["reference_id"], np.float32(row["score"])) for row in rows] == want
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert row["pair_id"] == pair_id("test", row["query_id"], row["reference_id"]) and row["split"] == "test"
        background = sorted((float(np.float32(pool[row["query_id"]] @ b)) for b in basic.values()), reverse=True)[:3]
        assert row["score_normalized"] == pytest.approx(row["score"] - sum(background) / 3, abs=1e-6)
        assert (row["inliers"] is None) == (row["duplicate_of"] is not None) and row["prelabel"] is None
    assert {row["query_id"]: row["duplicate_of"] for row in rows if row["duplicate_of"]} == {"p-dup": "r1"}
    record = read_json(directory / "run.json")
    assert record["cut"] == rows[-1]["score"] and record["background"] == "basic"
    assert record["mean_score"] == pytest.approx(np.mean([row["score"] for row in rows]))
    assert record["counts"]["duplicates"] == 1 and record["counts"]["pairs"] == 5 and record["counts"]["pool"] == 6
    assert "p-crop1" in (directory / "contact_sheet.html").read_text("utf-8")


@pytest.fixture
def copied(bench):
    """Twelve references; the pool holds a resized duplicate of each, a crop of each, and strangers."""
    bench.add("reference", {f"r{i:02}": scene(i) for i in range(12)})
    pool = {f"dup{i:02}": scene(i).resize((96, 72)) for i in range(12)} | {f"crop{i:02}": crop(i) for i in range(12)}
    bench.add("pool", pool | {f"other{i:02}": scene(50 + i) for i in range(6)})
    return bench.workspace


def people_and_duplicates(directory):
    rows = read_table(directory / "candidates.parquet").to_pylist()
    return sum(row["duplicate_of"] is None for row in rows), sum(row["duplicate_of"] is not None for row in rows)


def test_top_counts_pairs_for_people(copied, capsys):
    directory = run(MineConfig(copied.root, top=5, max_per_reference=0))
    assert people_and_duplicates(directory) == (5, 12)  # the duplicates rank first
    counts = read_json(directory / "run.json")["counts"]
    assert (counts["pairs"], counts["for_people"], counts["duplicates"], counts["asked"]) == (17, 5, 12, 5)
    said = " ".join(capsys.readouterr().err.split())
    assert "5 pairs for people to label, scores 0." in said
    assert "12 pairs set aside as duplicates" in said
    assert "recommended" not in said  # the user chose the number


@pytest.mark.parametrize("top", [1, 4, 11])
def test_a_larger_top_extends_a_smaller_one(copied, top):
    """Whatever the number of search rounds: the result is the start of the full ranking up to the last pair wanted."""
    full = read_table(run(MineConfig(copied.root, top=1000)) / "candidates.parquet").to_pylist()
    want, people = [], 0
    for row in full:
        if people < top:
            want.append(row["pair_id"])
            people += row["duplicate_of"] is None
    found = read_table(run(MineConfig(copied.root, top=top)) / "candidates.parquet")
    assert found["pair_id"].to_pylist() == want
    assert found["rank"].to_pylist() == list(range(1, len(want) + 1))


def test_a_run_killed_in_the_second_round_continues_with_it(copied, monkeypatch):
    from ndec_builder.candidates import mining_search

    want = sha256_file(run(MineConfig(copied.root, top=1)) / "candidates.parquet")
    for name in ("candidates.parquet", "run.json"):
        (copied.candidates("test") / name).unlink()
    find, tops = mining_search.find_pairs, []

    def killed_in_the_second(config, *others):
        tops.append(config.top)
        if len(tops) == 2:
            raise KeyboardInterrupt
        return find(config, *others)

    monkeypatch.setattr(mining_search, "find_pairs", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(MineConfig(copied.root, top=1))
    directory = run(MineConfig(copied.root, top=1))
    assert len(set(tops)) < len(tops) and tops.count(tops[0]) == 1  # the first round is not repeated
    assert sha256_file(directory / "candidates.parquet") == want
    assert not (directory / "search").exists()


@pytest.mark.parametrize(
    ("pool", "top"), [(1, 1), (6, 3), (80, 40), (504, 50), (2000, 200), (10_000, 1000), (1_000_000, 1000)]
)
def test_recommended_top(pool, top):
    assert recommended_top(pool) == top


def test_the_recommended_number_is_mined_when_none_is_given(copied, capsys):
    directory = run(MineConfig(copied.root, max_per_query=0, max_per_reference=0))
    assert people_and_duplicates(directory)[0] == 15 == recommended_top(30)
    assert read_json(directory / "run.json")["counts"]["asked"] == 15
    said = " ".join(capsys.readouterr().err.split())
    assert "--top 15 is used, the number recommended for 30 pool images" in said


def test_rerun_does_no_work_and_other_settings_do(mined, capsys):
    config = MineConfig(mined.root, top=5)
    directory = run(config)
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    (directory / "search").mkdir()  # of a run that was killed after it wrote its result
    (directory / "search" / "round.parquet").touch()
    assert run(config) == directory
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before
    assert "nothing to do" in capsys.readouterr().err
    run(MineConfig(mined.root, top=3))
    assert len(read_table(directory / "candidates.parquet")) == 4  # one of them a duplicate
    (directory / "candidates.parquet").unlink()  # an interrupted run is not a finished one
    run(MineConfig(mined.root, top=3))
    assert len(read_table(directory / "candidates.parquet")) == 4


def test_what_an_earlier_run_mined_is_remembered(mined):
    """An exact duplicate that a smaller --top no longer finds must not become a distractor."""
    directory = run(MineConfig(mined.root, top=5))
    assert not (directory / "mined.parquet").exists()
    before = set(read_table(directory / "candidates.parquet")["query_id"].to_pylist())
    for top in (2, 1):
        run(MineConfig(mined.root, top=top))
        assert set(read_table(directory / "mined.parquet")["query_id"].to_pylist()) == before
    assert set(labelled_images(mined)["query_id"].to_pylist()) == before


def test_images_ingested_again_make_the_candidates_out_of_date(mined, bench):
    directory = run(MineConfig(mined.root, top=5))
    assert stale_results(mined) == []
    bench.add("basic", {f"b{i}": scene(200 + i) for i in range(8)})  # only normalises the scores of split test
    assert stale_results(mined) == []
    bench.add("pool", {"p-crop1": crop(3), "p-crop2": crop(2)})  # p-crop1 is another picture now
    for record in (read_json(directory / "run.json"), read_json(directory / "run.json") | {"images": None}):
        write_json(directory / "run.json", record)  # version 0.1.0 did not record the images
        (found,) = stale_results(mined)
        assert (found.stage, found.command, found.blocks) == ("candidates test", "ndec mine --split test", True)
        assert found.why == "were mined before the pool images were ingested again"
    run(MineConfig(mined.root, top=5))
    assert stale_results(mined) == []


def test_same_bytes_for_any_block_size(mined):
    hashes = set()
    for block in (1, 4, 1000):
        directory = run(MineConfig(mined.root, top=6, block=block))
        hashes.add(sha256_file(directory / "candidates.parquet"))
        for name in ("candidates.parquet", "run.json"):
            (directory / name).unlink()
    assert len(hashes) == 1


def test_same_bytes_for_any_part_size_and_search(mined, bench):
    hashes = set()
    vectors = stored(mined, "pool")
    for part, search in ((1, "faiss"), (4, "auto"), (0, "auto")):
        names = list(vectors) if part else list(vectors)[::-1]  # a table in another order
        bench.embed("pool", names, [vectors[name] for name in names], part=part)
        directory = run(MineConfig(mined.root, top=6, max_per_query=2, search=search))
        hashes.add(sha256_file(directory / "candidates.parquet"))
        for name in ("candidates.parquet", "run.json"):
            (directory / name).unlink()
    assert len(hashes) == 1


def test_ranked_by_normalized_scores(mined):
    options = {"normalization_factor": 2.0, "normalization_neighbours": 2, "normalization_mode": "min"}
    directory = run(MineConfig(mined.root, top=5, max_per_query=0, rank_by="normalized", **options))
    rows = read_table(directory / "candidates.parquet").to_pylist()
    pool, gallery, basic = (stored(mined, role) for role in ("pool", "reference", "basic"))
    want = []
    for query, p in pool.items():
        background = sorted((float(np.float32(p @ b)) for b in basic.values()), reverse=True)[1]
        for reference, r in gallery.items():
            want.append((-np.float32(float(np.float32(p @ r)) - 2 * background), query, reference))
    want.sort()
    assert [(row["query_id"], row["reference_id"]) for row in rows] == [(q, r) for _, q, r in want[:6]]
    np.testing.assert_array_equal([row["score_normalized"] for row in rows], [-score for score, _, _ in want[:6]])
    for row in rows:
        assert row["score"] == np.float32(pool[row["query_id"]] @ gallery[row["reference_id"]])
    assert read_json(directory / "run.json")["cut"] == min(row["score"] for row in rows)


def test_same_photo_and_same_author(bench, tmp_path):
    """p1 is r1 by its photo id though no picture says so; p2 has r2's author; nothing is known of p3 and r3."""
    bench.add("reference", {f"r{i}": scene(i) for i in (1, 2, 3)})
    bench.add("pool", {f"p{i}": scene(i + 10) for i in (1, 2, 3)})
    table = bench.workspace.read_images("pool").to_pylist()
    table[0]["original_url"] = "https://c1.staticflickr.com/5/4129/77_46f356962f_o.jpg"
    table[1] |= {
        "landing_url": "https://www.flickr.com/photos/ann/5",
        "author_url": "https://www.flickr.com/people/ann/",
    }
    write_table(bench.workspace.images("pool"), table_of(IMAGES, table))
    for role, letter in (("reference", "r"), ("pool", "p")):
        bench.embed(role, [f"{letter}{i}" for i in (1, 2, 3)], list(np.eye(3)))
    path = tmp_path / "yfcc.csv"
    path.write_text("image_id,photo_id,author_url\nr1.jpg,77,\nr2,78,https://www.flickr.com/people/ann\n")
    config = MineConfig(bench.workspace.root, top=3, attribution=path)
    rows = read_table(run(config) / "candidates.parquet").to_pylist()
    told = {row["query_id"]: (row["same_photo"], row["same_author"], row["duplicate_of"]) for row in rows}
    assert told == {"p1": (True, None, "r1"), "p2": (False, True, None), "p3": (None, None, None)}
    directory = run(config)
    counts = read_json(directory / "run.json")["counts"]
    assert (counts["same_photo"], counts["same_author"], counts["duplicates"]) == (1, 1, 1)
    page = (directory / "contact_sheet.html").read_text("utf-8")
    assert '"hint":["same author","","same photo"]' in page
    before = (directory / "run.json").read_bytes()
    run(config)
    assert (directory / "run.json").read_bytes() == before
    path.write_text("image_id,photo_id\nr1,99\n")  # another table: mined again
    assert read_table(run(config) / "candidates.parquet")["same_photo"].to_pylist().count(True) == 0
    path.write_text("image_id,photo_id\nR000001,99\n")
    with pytest.raises(UsageError, match=r"none of the 1 images of .*yfcc\.csv, 'R000001' first"):
        run(config)
    with pytest.raises(UsageError, match="does not exist"):
        run(MineConfig(bench.workspace.root, top=3, attribution=tmp_path / "gone.csv"))


def test_straight_from_two_folders_with_the_default_backbone(tmp_path):
    write_scenes(tmp_path / "references", 4)
    (tmp_path / "pool").mkdir()
    for seed in (1, 3):
        scene(seed).save(tmp_path / "pool" / f"copy-{seed}.png")
    write_scenes(tmp_path / "pool", 3, first_seed=60)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "ndec.toml").write_text("[embed]\nbatch_size = 3\n")
    references = (tmp_path / "references").as_uri()  # a folder as a URI, the other as a path
    config = MineConfig(tmp_path / "bench", top=2, pool=tmp_path / "pool", references=references, max_per_reference=1)
    rows = read_table(run(config) / "candidates.parquet").to_pylist()
    assert {(row["query_id"], row["reference_id"]) for row in rows if row["duplicate_of"]} == {
        ("copy-1", "scene-0001"),
        ("copy-3", "scene-0003"),
    }
    assert len(rows) == 4 and all(row["score_normalized"] is None for row in rows)
    embedded = tmp_path / "bench" / "embeddings" / "pool" / config.model / "run.json"
    assert read_json(embedded)["config"]["batch_size"] == 3
    before = sha256_file(run(config) / "run.json")
    assert sha256_file(run(config) / "run.json") == before


def test_the_sheet_of_a_finished_mining_is_written_again_without_pictures(mined):
    directory = run(MineConfig(mined.root, top=2, geometry=False))
    sheet, table = directory / "contact_sheet.html", (directory / "candidates.parquet").read_bytes()
    assert "data:image" in sheet.read_text("utf-8")
    run(MineConfig(mined.root, top=2, geometry=False, pictures=False))
    assert "data:image" not in sheet.read_text("utf-8")
    assert (directory / "candidates.parquet").read_bytes() == table
    run(MineConfig(mined.root, top=2, geometry=False))
    assert "data:image" in sheet.read_text("utf-8")
