"""`--plan`: a named set of strategy settings, in which every setting that is given wins."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

import ndec_builder as ndec
from ndec_builder.annotation.settings import PushConfig, ResolveConfig
from ndec_builder.core.errors import UsageError


def differing(one: PushConfig, two: PushConfig) -> set[str]:
    return {field.name for field in fields(one) if getattr(one, field.name) != getattr(two, field.name)}


def test_thorough_is_the_defaults(tmp_path: Path) -> None:
    assert PushConfig(tmp_path, plan="thorough") == PushConfig(tmp_path)


def test_economical_sets_the_strategy_and_nothing_else(tmp_path: Path) -> None:
    config = PushConfig(tmp_path, plan="economical")
    changed = {"plan", "decide", "discard_tolerance", "double_check", "keepable", "order", "overlap"}
    assert differing(config, PushConfig(tmp_path)) == changed
    assert (config.decide, config.double_check, config.order) == ("weighed", "uncertain", "copies_last")
    assert (config.discard_tolerance, config.keepable, config.overlap) == (0.1, True, 0.0)


def test_resolve_decides_by_the_same_rules(tmp_path: Path) -> None:
    push, resolve = PushConfig(tmp_path, plan="economical"), ResolveConfig(tmp_path, plan="economical")
    names = ("decide", "tolerance", "discard_tolerance")
    assert [getattr(resolve, name) for name in names] == [getattr(push, name) for name in names]


def test_a_given_setting_wins_even_with_its_default_value(tmp_path: Path) -> None:
    config = PushConfig(tmp_path, plan="economical", overlap=0.1, order="rank")
    assert (config.overlap, config.order, config.decide) == (0.1, "rank", "weighed")


def test_a_setting_of_the_file_wins_over_the_plan_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "ndec.toml").write_text("[annotate.push]\noverlap = 0.1\nkeepable = false\n")
    config = ndec.configure(PushConfig, tmp_path, plan="economical")
    assert (config.overlap, config.keepable, config.order) == (0.1, False, "copies_last")


def test_a_flag_wins_over_the_plan_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "ndec.toml").write_text('[annotate.push]\nplan = "economical"\n')
    config = ndec.configure(PushConfig, tmp_path, order="informative")
    assert (config.order, config.double_check) == ("informative", "uncertain")


@pytest.mark.parametrize("by_position", [True, False])
def test_the_split_train_has_no_keepable(tmp_path: Path, by_position: bool) -> None:
    config = (
        PushConfig(tmp_path, "train", plan="economical")
        if by_position
        else PushConfig(tmp_path, split="train", plan="economical")
    )
    assert config.keepable is False and config.order == "copies_last"


def test_a_changed_copy_keeps_the_other_settings(tmp_path: Path) -> None:
    config = PushConfig(tmp_path, plan="economical", overlap=0.1)
    assert differing(replace(config, annotators=("ann",)), config) == {"annotators"}


def test_an_unknown_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plan is 'cheap'; it must be thorough or economical"):
        PushConfig(tmp_path, plan="cheap")
