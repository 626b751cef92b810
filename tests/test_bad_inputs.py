"""Every kind of wrong input, what a user gets for it, and the tests that prove it.

The exit code is 2 for usage, 3 for files, 4 for what is not installed or not there, 5 where nothing is
feasible, 1 for other failures, 130 and 143 for Ctrl-C and SIGTERM. Always: one line that says why, nothing
lost, nothing executed, no traceback. Below, each row names its tests.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

ROWS = {
    "adap alone -> 2, help": ["test_cli.py::test_alone_shows_help_and_is_a_usage_error"],
    "adap trian -> 2, did you mean train": [
        "test_cli.py::test_a_mistyped_command_gets_a_suggestion",
        "bad_inputs/test_options.py::test_a_command_that_does_not_exist",
    ],
    "checkpoint that is not there, empty, text, cut short -> 3": [
        "bad_inputs/test_checkpoints.py::test_files_of_another_kind",
        "bad_inputs/test_checkpoints.py::test_a_file_that_was_cut_short",
    ],
    ".pt with a pickle payload, a whole pickled module -> 3, nothing was run": [
        "bad_inputs/test_checkpoints.py::test_python_objects_are_refused_and_nothing_is_run",
        "bad_inputs/test_training.py::test_a_damaged_state_is_refused_and_never_run",
    ],
    "safetensors without config.json -> 3": ["bad_inputs/test_checkpoints.py::test_weights_without_a_config"],
    "config.json: not JSON, nested, NaN, wrong types, huge, unknown keys -> 3, field and reason": [
        "bad_inputs/test_checkpoints.py::test_a_config_that_is_wrong",
        "bad_inputs/test_checkpoints.py::test_our_own_config_with_a_wrong_field",
    ],
    "missing, extra, misshapen tensors -> 3, the first five and the count": [
        "bad_inputs/test_checkpoints.py::test_other_tensors_are_counted_and_five_named"
    ],
    "NaN or infinite weights -> 3, the tensor": [
        "bad_inputs/test_checkpoints.py::test_weights_that_are_no_numbers"
    ],
    "checkpoint of another task -> 3, which": [
        "sweep/test_commands.py::test_a_checkpoint_of_another_task",
        "sweep/test_commands.py::test_a_checkpoint_of_other_classes",
        "bad_inputs/test_predict.py::test_a_checkpoint_of_another_task",
    ],
    "--flops-target nan, inf, -1, 0, 0,7, 70 -> 2, write 0.7": [
        "test_cli.py::test_a_fraction_is_in_zero_to_one",
        "search/test_search_command.py::test_wrong_arguments",
        "bad_inputs/test_policies.py::test_wrong_arguments",
    ],
    "target below the cheapest -> 5, the cheapest": [
        "search/test_search_command.py::test_wrong_arguments",
        "bad_inputs/test_policies.py::test_wrong_arguments",
    ],
    "data folder missing, empty, of one class, unreadable -> 3, what was looked for": [
        "bad_inputs/test_data_folders.py::test_folders_without_the_data",
        "bad_inputs/test_data_folders.py::test_a_folder_that_may_not_be_read",
        "bad_inputs/test_data_folders.py::test_ways_to_split_that_do_not_go",
        "bad_inputs/test_predict.py::test_a_folder_without_pictures",
        "bad_inputs/test_predict.py::test_nothing_on_stdin",
    ],
    "corrupt, huge, empty picture, a folder as picture -> skipped and counted; 3 if all are": [
        "bad_inputs/test_data_folders.py::test_damaged_pictures_are_left_out_and_counted",
        "bad_inputs/test_data_folders.py::test_nothing_but_damaged_pictures",
        "bad_inputs/test_predict.py::test_a_picture_that_cannot_be_read",
        "bad_inputs/test_predict.py::test_a_path_with_a_zero_byte_or_too_long_on_stdin",
    ],
    "CMYK, LA, palette, 16-bit, turned, animated pictures -> 0": [
        "bad_inputs/test_data_folders.py::test_unusual_pictures_work",
        "bad_inputs/test_predict.py::test_unusual_pictures_work",
    ],
    "--tokens 0, --tokens 33, --depths 99 -> 2, the allowed values": [
        "bad_inputs/test_deployment.py::test_values_that_are_not_allowed",
        "sweep/test_commands.py::test_bad_options",
    ],
    "--device cuda without CUDA -> 4; cudaa -> 2": [
        "bad_inputs/test_options.py::test_a_device_that_is_not_there",
        "bad_inputs/test_options.py::test_values_out_of_range",
    ],
    "output holds a run -> 2; read-only, full disk -> 1; is a file -> 2; no half file": [
        "bad_inputs/test_deployment.py::test_what_is_there_stays_unless_it_may_be_overwritten",
        "bad_inputs/test_deployment.py::test_a_device_or_a_pipe_is_never_replaced",
        "bad_inputs/test_places.py::test_a_part_of_the_checkpoint_is_never_replaced",
        "bad_inputs/test_deployment.py::test_a_full_disk_leaves_nothing_half",
        "sweep/test_commands.py::test_results_are_not_overwritten_silently",
        "training/test_train_command.py::test_a_finished_run_is_kept_unless_told",
        "bad_inputs/test_policies.py::test_a_policy_is_kept_unless_told",
        "bad_inputs/test_policies.py::test_a_full_disk_keeps_the_earlier_policy",
        "bad_inputs/test_policies.py::test_a_file_in_the_place_of_a_policy",
        "bad_inputs/test_output.py::test_a_full_disk_while_sweeping",
        "bad_inputs/test_output.py::test_a_full_disk_while_replacing_a_table",
        "bad_inputs/test_output.py::test_a_full_disk_while_searching",
        "bad_inputs/test_output.py::test_a_full_disk_while_drawing",
        "bad_inputs/test_output.py::test_a_full_disk_while_training",
        "bad_inputs/test_output.py::test_a_read_only_place",
        "bad_inputs/test_output.py::test_a_file_in_the_place_of_results",
        "bad_inputs/test_output.py::test_a_file_in_the_place_of_small_results",
        "bad_inputs/test_tables.py::test_a_run_folder_that_is_a_file",
        "bad_inputs/test_predict.py::test_a_full_disk_leaves_the_earlier_file",
        "bad_inputs/test_predict.py::test_nothing_is_written_where_nothing_can_be_read",
    ],
    "--resume with another checkpoint or size -> 3, which fields differ": [
        "bad_inputs/test_tables.py::test_a_sweep_of_something_else_is_not_resumed",
        "bad_inputs/test_tables.py::test_a_sweep_of_another_checkpoint_is_not_resumed",
        "bad_inputs/test_training.py::test_another_recipe_does_not_resume",
    ],
    "torn last line or chunk -> 0 with a warning; garbage in the middle -> 3, where": [
        "bad_inputs/test_tables.py::test_a_torn_last_chunk_is_redone_with_a_warning",
        "bad_inputs/test_tables.py::test_garbage_in_the_middle_is_refused_with_its_place",
        "bad_inputs/test_training.py::test_a_torn_log_is_mended",
        "search/test_search_command.py::test_a_torn_study_is_repaired_with_a_warning",
        "bad_inputs/test_options.py::test_a_study_with_garbage_in_its_middle",
    ],
    "table with NaN, a configuration twice, a column missing, 0 rows, not there -> 3, where": [
        "bad_inputs/test_tables.py::test_a_damaged_table",
        "bad_inputs/test_tables.py::test_no_table",
        "bad_inputs/test_tables.py::test_a_table_under_way",
        "bad_inputs/test_tables.py::test_a_damaged_record_of_commands",
        "bad_inputs/test_tables.py::test_a_report_of_a_damaged_search",
    ],
    "stranger's zip of stable-baselines3 -> 3, nothing was run": [
        "bad_inputs/test_checkpoints.py::test_a_zip_of_stable_baselines_is_no_checkpoint",
        "bad_inputs/test_policies.py::test_a_kept_policy_that_is_damaged_is_refused_and_never_run",
        "bad_inputs/test_predict.py::test_a_zip_of_stable_baselines_in_place_of_a_policy",
    ],
    "policy of another checkpoint, not there, none that pictures can run -> 3, 3, 2": [
        "bad_inputs/test_predict.py::test_a_policy_of_another_checkpoint",
        "bad_inputs/test_predict.py::test_no_policy_at_all",
        "bad_inputs/test_predict.py::test_a_policy_that_needs_a_table",
    ],
    "--max-flops 0, nan, 5X -> 2, write 5e6; below what runs -> 5": [
        "bad_inputs/test_predict.py::test_wrong_arguments"
    ],
    "--algo foo, dqn with factored actions -> 2, allowed": [
        "bad_inputs/test_policies.py::test_wrong_arguments"
    ],
    "study of another space or direction -> 3, what it was made for": [
        "search/test_search_command.py::test_a_study_of_another_target_is_refused",
        "search/test_sampled.py::test_a_study_of_something_else_is_refused",
        "bad_inputs/test_options.py::test_a_study_of_another_table",
        "bad_inputs/test_options.py::test_a_study_that_is_none",
    ],
    "recipe: bad YAML, unknown key, !!python/object, bomb -> 2, file:line, did you mean": [
        "bad_inputs/test_training.py::test_a_wrong_recipe",
        "bad_inputs/test_training.py::test_recipes_that_are_not_there",
    ],
    "hub without its extra -> 4, pip command": [
        "bad_inputs/test_checkpoints.py::test_a_hub_without_the_extra"
    ],
    "numbers out of range: --batch 0, --seed 2**70, --threads 9999 -> 2, the range": [
        "bad_inputs/test_options.py::test_values_out_of_range",
        "bad_inputs/test_training.py::test_options_out_of_range",
        "sweep/test_commands.py::test_bad_options",
    ],
    "loss becomes NaN -> 1, the step; the last good state is kept": [
        "bad_inputs/test_training.py::test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state"
    ],
    "Ctrl-C, SIGTERM -> 130, 143, the command that goes on": [
        "test_cli.py::test_an_interrupted_command_names_the_one_that_resumes",
        "sweep/test_commands.py::test_an_interrupt_leaves_a_resumable_run",
        "training/test_train_command.py::test_a_signal_leaves_a_run_that_the_command_told_finishes",
        "bad_inputs/test_interrupts.py::test_a_sweep_goes_on_with_the_command_told",
        "bad_inputs/test_interrupts.py::test_a_search_goes_on_with_its_study",
        "bad_inputs/test_interrupts.py::test_a_report_that_is_interrupted_leaves_the_one_before",
        "bad_inputs/test_policies.py::test_an_interrupt_leaves_nothing_and_tells_what_to_type",
        "test_demo.py::test_the_demo_makes_a_report_and_can_be_interrupted_and_repeated",
    ],
    "closed pipe, no terminal, 20 columns, LC_ALL=C, odd paths -> 0 or 1, works": [
        "test_cli.py::test_a_closed_pipe_is_quiet",
        "test_cli.py::test_narrow_or_plain_terminals_work",
        "test_cli.py::test_any_path_can_be_shown",
        "bad_inputs/test_terminals.py::test_odd_paths_on_a_plain_narrow_terminal",
        "bad_inputs/test_terminals.py::test_odd_paths_from_sweep_to_report",
        "bad_inputs/test_terminals.py::test_a_reader_that_left",
        "bad_inputs/test_terminals.py::test_closed_streams",
    ],
}
"""Wrong input -> its tests. To come with their commands: masks and depths, teachers."""


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tests(row):
    for place in ROWS[row]:
        path, _, name = place.partition("::")
        assert re.search(rf"^ *def {name}\(", (TESTS / path).read_text("utf-8"), re.MULTILINE), place


def test_every_test_of_bad_inputs_is_in_a_row_or_beside_one():
    """A file that no row names would be a row that is missing."""
    named = {place.partition("::")[0] for places in ROWS.values() for place in places}
    there = {path.relative_to(TESTS).as_posix() for path in (TESTS / "bad_inputs").glob("test_*.py")}
    assert there <= named
