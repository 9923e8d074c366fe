//! `adit wg` beside the `wg` of the machine and the newest: the same command lines, files,
//! environment and answers from the same sockets; exit code, both streams and requests compared byte
//! for byte.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod differences;
mod files;
mod keys;
mod random;
mod set;
mod show;
mod stage;

use stage::on_stage;

#[test]
fn everything_is_shown_alike() {
    on_stage("everything_is_shown_alike", show::scenes);
}

#[test]
fn answers_that_make_no_sense_are_met_alike() {
    on_stage("answers_that_make_no_sense_are_met_alike", show::broken_answers);
}

#[test]
fn several_interfaces_are_shown_alike() {
    on_stage("several_interfaces_are_shown_alike", show::several);
}

#[test]
fn strangers_are_turned_away_alike() {
    on_stage("strangers_are_turned_away_alike", show::strangers);
}

#[test]
fn keys_are_made_alike() {
    on_stage("keys_are_made_alike", keys::scenes);
}

#[test]
fn settings_are_sent_alike() {
    on_stage("settings_are_sent_alike", set::scenes);
}

#[test]
fn keys_come_alike_through_pipes() {
    on_stage("keys_come_alike_through_pipes", set::pipes);
}

#[test]
fn names_are_resolved_alike() {
    on_stage("names_are_resolved_alike", set::names);
}

#[test]
fn files_are_applied_alike() {
    on_stage("files_are_applied_alike", files::scenes);
}

#[test]
fn what_is_there_is_synchronised_alike() {
    on_stage("what_is_there_is_synchronised_alike", files::synchronised);
}

#[test]
fn what_nobody_has_thought_of_is_met_alike() {
    on_stage("what_nobody_has_thought_of_is_met_alike", random::scenes);
}

#[test]
fn differences_are_as_intended() {
    on_stage("differences_are_as_intended", differences::scenes);
}

#[test]
fn nothing_is_lost_in_silence_on_a_full_disk() {
    on_stage("nothing_is_lost_in_silence_on_a_full_disk", differences::full_disk);
}

#[test]
fn a_terminal_gets_colours() {
    on_stage("a_terminal_gets_colours", differences::terminal);
}

#[test]
fn it_calls_itself_as_it_was_called() {
    on_stage("it_calls_itself_as_it_was_called", differences::names);
}

#[test]
fn json_and_names_are_added() {
    on_stage("json_and_names_are_added", differences::ours);
}
