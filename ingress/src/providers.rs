//! What is particular to each provider's dialect.

pub mod demo;
pub mod openai;
