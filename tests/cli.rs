//! Does the program keep its promises to people and scripts?

mod bench;
mod errors;
#[cfg(unix)]
mod full_disk;
mod halting;
mod help;
mod init;
mod job;
mod joint;
#[cfg(unix)]
mod killed;
mod newcomer;
mod runs;
#[cfg(unix)]
mod stopped;
mod study;
mod world;
