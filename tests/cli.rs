//! Does the program keep its promises to people and scripts?

mod bench;
mod errors;
mod help;
mod runs;
mod world;
