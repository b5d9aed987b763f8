//! Does a report show what the data says, whatever state the data is in?

mod chromium;
mod data;
mod figures;
mod markdown;
mod pages;
mod pictures;
