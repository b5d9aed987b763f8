//! How does a student learn from its teacher?
