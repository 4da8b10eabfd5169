//! What must work, each behaviour a test of its own; see the acceptance table.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests fail by panicking")]

mod acceptance;
mod bad_input;
mod bonus;
mod cancelling;
mod crashing;
mod delivering;
mod deployed;
mod depositing;
mod due_dates;
mod entrance;
mod finding;
mod forgetting;
mod gateway;
mod holding;
mod identity;
mod least_privilege;
mod lists;
mod looking_back;
mod my_page;
mod noticing;
mod offering;
mod outages;
mod overload;
mod parking;
mod projecting;
mod proof;
mod renting;
mod repeating;
mod restoring;
mod safe;
mod seeing;
mod shape;
mod shops;
mod slow_spell;
mod watching;
