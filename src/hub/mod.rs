//! How do published checkpoints come in and go out?
