//! What does a person see? The only room that prints.
