//! The read side: views that follow the log, and the queries over them.
//!
//! Never true in here: a view decides anything, a view is the only place where something is known, a reader
//! sees an answer older than the position it asked for, a projector moves on without what it skipped being
//! written down.
//!
//! Reading order: [`view`] (what a view is), [`views`] (the list of them, a file each), [`projector`] (events
//! → rows), [`slices`] and [`sharing`] (several projectors of one view), [`tables`] (where the rows are), [`upkeep`] and
//! [`rebuild`] (rows of another definition), [`parking`] (what could not be applied), then [`api`] and [`reads`] (rows → HTTP)
//! with [`waiting`] and [`paging`].

pub mod ahead;
pub mod api;
mod bulk;
mod changes;
mod columns;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod golden;
mod notices;
mod pace;
pub mod paging;
pub mod parking;
mod plain;
mod projection;
pub mod projector;
pub mod reads;
pub mod rebuild;
mod rows;
pub mod sampling;
mod search;
pub mod sharing;
pub mod slices;
pub mod tables;
mod telling;
pub mod upkeep;
pub mod verify;
pub mod view;
pub mod views;
pub mod waiting;
