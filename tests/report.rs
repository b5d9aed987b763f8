//! Does a report show what the data says, whatever state the data is in?

mod chromium;
mod data;
mod figures;
mod pages;
mod pictures;
