"""Which tests `make quick` leaves out: those that take more than about half a second of CPU time, or kill processes.

Measured with `os.times()` around each test. A module is listed as a whole if most of its tests are slow.
"""

from __future__ import annotations

SLOW_FOLDERS = {"faults"}
SLOW_MODULES = {
    "test_api", "test_backbones", "test_benchmark", "test_cli", "test_demo", "test_diff", "test_docs", "test_embed",
    "test_extract", "test_features", "test_feel", "test_fused", "test_fused_models", "test_geometry_table", "test_mine",
    "test_norms", "test_paper", "test_prelabel", "test_published_formats", "test_readme", "test_results", "test_run",
    "test_shards", "test_stale", "test_team", "test_train", "test_validate",
}  # fmt: skip
SLOW_TESTS = {
    "test_a_corpus_from_one_package_of_videos",
    "test_a_killed_comparison_goes_on_where_it_stopped",
    "test_a_pasted_copy_has_a_seam_and_the_reverse_crop_has_none",
    "test_a_synthetic_homography_is_found_again",
    "test_another_seed_replaces_the_files_and_keeps_edits_of_queries",
    "test_any_rows_in_any_order_from_any_parts",
    "test_chunks_and_slices_do_not_count",
    "test_connecting_to_nothing_to_strangers_and_with_a_wrong_token",
    "test_every_stage_that_writes_has_one_writer",
    "test_ground_truth_in_pieces_is_the_whole",
    "test_it_learns_the_truth_from_people_who_err",
    "test_labels_become_prelabels",
    "test_listed_images_are_embedded_and_mined",
    "test_loads_with_datasets",
    "test_mining_uses_them_without_embedding_anything",
    "test_no_label_of_a_fold_enters_its_probabilities",
    "test_only_the_newest_label_of_a_person_counts_and_order_between_people_does_not",
    "test_parts_do_not_depend_on_the_shards",
    "test_scores_closer_than_the_rounding_errors_of_faiss",
    "test_share_of_any_geometry_equals_counting_places",
    "test_tables_and_files_agree",
    "test_the_aligned_view_shows_what_moved_and_what_lies_outside",
    "test_the_checkpoint_says_its_threshold_and_the_head_behind_it_saw_no_held_out_image",
    "test_the_image_server_and_embedding_read_members",
    "test_the_model_learns_what_tells_copies_apart_and_says_which_feature",
    "test_the_same_labels_give_the_same_numbers_whatever_their_order",
    "test_the_wheel_ships_the_page_the_guideline_and_the_type_marker",
    "test_validate_as_json",
    "test_what_is_left_out_is_below_a_floor_or_the_bound",
    "test_with_simulated_people_weighing_needs_fewer_looks_for_no_more_errors",
}
